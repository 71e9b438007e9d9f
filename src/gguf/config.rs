//! `config.json` of a GGUF file's metadata, in the form that mlx-lm reads too.

use serde_json::{Map, Value as Json, json};

use super::Facts;
use super::value::Value;

/// Architectures as GGUF, transformers' classes and `model_type` name them.
const ARCHITECTURES: [(&str, &str, &str); 5] = [
    ("gemma3", "Gemma3ForCausalLM", "gemma3_text"),
    ("llama", "LlamaForCausalLM", "llama"),
    ("qwen2", "Qwen2ForCausalLM", "qwen2"),
    ("qwen3", "Qwen3ForCausalLM", "qwen3"),
    ("qwen3moe", "Qwen3MoeForCausalLM", "qwen3_moe"),
];

/// Gemma 3: of every so many layers the last sees everything.
const PATTERN: u64 = 6;

/// Layers of the Gemma 3 whose scores are divided by another root than that of the heads' width.
const LARGEST_GEMMA: u64 = 62;

impl Facts<'_> {
    /// The name of a value of this architecture.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn size(&self, name: &str) -> Result<u64, String> {
        self.metadata.size(&self.key(name))
    }

    fn number(&self, name: &str) -> Result<Option<f64>, String> {
        self.metadata.optional_number(&self.key(name))
    }

    /// Numbers of an attention head.
    pub(super) fn head_width(&self) -> Result<usize, String> {
        let heads = self.size("attention.head_count")?.max(1);
        let width = self
            .metadata
            .optional_size(&self.key("attention.key_length"))?;
        let width = match width {
            Some(width) => width,
            None => self.size("embedding_length")? / heads,
        };
        // Rows are put back in order by it.
        let even = usize::try_from(width)
            .ok()
            .filter(|width| *width > 0 && width.is_multiple_of(2));
        even.ok_or_else(|| format!("its heads are {width} wide, which is no even size"))
    }

    /// What one architecture has and others have not.
    fn more(&self, own: &str, experts: u64, config: &mut Map<String, Json>) -> Result<(), String> {
        let mut put = |name: &str, value: Json| drop(config.insert(name.to_owned(), value));
        match own {
            "gemma3" => {
                put("hidden_activation", json!("gelu_pytorch_tanh"));
                let scalar = if self.size("block_count")? == LARGEST_GEMMA {
                    self.size("embedding_length")? / self.size("attention.head_count")?.max(1)
                } else {
                    self.head_width()? as u64
                };
                put("query_pre_attn_scalar", json!(scalar));
                put(
                    "sliding_window",
                    json!(self.size("attention.sliding_window")?),
                );
                let pattern = self.key("attention.sliding_window_pattern");
                if let Some(Value::List(_)) = self.metadata.get(&pattern) {
                    let layers = self.metadata.list(&pattern, |value| match value {
                        Value::Bool(true) => Some("sliding_attention"),
                        Value::Bool(false) => Some("full_attention"),
                        _ => None,
                    })?;
                    put("layer_types", json!(layers));
                } else {
                    let pattern = self.metadata.optional_size(&pattern)?;
                    put("sliding_window_pattern", json!(pattern.unwrap_or(PATTERN)));
                }
                let local = self.number("rope.freq_base_swa")?.unwrap_or(1e4);
                put("rope_local_base_freq", plain(local));
            }
            "qwen3moe" => {
                put("hidden_act", json!("silu"));
                put("num_experts", json!(experts));
                put(
                    "num_experts_per_tok",
                    json!(self.size("expert_used_count")?),
                );
                put(
                    "moe_intermediate_size",
                    json!(self.size("expert_feed_forward_length")?),
                );
                put("norm_topk_prob", json!(true));
                put("decoder_sparse_step", json!(1));
                put("mlp_only_layers", json!([]));
                put("attention_bias", json!(self.has_biases));
            }
            "llama" | "qwen3" => {
                put("hidden_act", json!("silu"));
                put("attention_bias", json!(self.has_biases));
            }
            _ => put("hidden_act", json!("silu")),
        }
        Ok(())
    }
}

/// The configuration.
///
/// # Errors
/// One sentence where a value is missing, or asks for what none of the architectures here has.
pub(super) fn config(facts: &Facts<'_>) -> Result<Json, String> {
    let known = ARCHITECTURES
        .iter()
        .find(|(own, ..)| *own == facts.architecture);
    let (own, class, kind) = known.ok_or_else(|| {
        let all = ARCHITECTURES.map(|(own, ..)| own).join(", ");
        format!(
            "the architecture {} is not read from GGUF: {all} are",
            facts.architecture
        )
    })?;
    let experts = facts
        .metadata
        .optional_size(&facts.key("expert_count"))?
        .unwrap_or(0);
    if experts > 0 && *own != "qwen3moe" {
        return Err(format!(
            "the architecture {own} with experts is not read from GGUF"
        ));
    }
    let heads = facts.size("attention.head_count")?;
    let width = facts.head_width()? as u64;
    let turned = facts
        .metadata
        .optional_size(&facts.key("rope.dimension_count"))?;
    if turned.is_some_and(|turned| turned != width) {
        return Err("it turns a part of each head, which is not read from GGUF".to_owned());
    }
    let kv_heads = facts
        .metadata
        .optional_size(&facts.key("attention.head_count_kv"))?;
    let mut config = Map::new();
    let mut put = |name: &str, value: Json| drop(config.insert(name.to_owned(), value));
    put("architectures", json!([class]));
    put("model_type", json!(kind));
    put("vocab_size", json!(facts.vocabulary));
    put("hidden_size", json!(facts.size("embedding_length")?));
    put("num_hidden_layers", json!(facts.size("block_count")?));
    put(
        "intermediate_size",
        json!(facts.size("feed_forward_length")?),
    );
    put("num_attention_heads", json!(heads));
    put("num_key_value_heads", json!(kv_heads.unwrap_or(heads)));
    put("head_dim", json!(width));
    put(
        "max_position_embeddings",
        json!(facts.size("context_length")?),
    );
    let epsilon = facts.number("attention.layer_norm_rms_epsilon")?;
    let epsilon = epsilon.ok_or_else(|| {
        format!(
            "its metadata have no `{}`",
            facts.key("attention.layer_norm_rms_epsilon")
        )
    })?;
    put("rms_norm_eps", plain(epsilon));
    put("tie_word_embeddings", json!(facts.is_tied));
    let default = if *own == "gemma3" { 1e6 } else { 1e4 };
    put(
        "rope_theta",
        plain(facts.number("rope.freq_base")?.unwrap_or(default)),
    );
    put("rope_scaling", facts.rope_scaling()?);
    for (id, field) in [
        ("tokenizer.ggml.bos_token_id", "bos_token_id"),
        ("tokenizer.ggml.eos_token_id", "eos_token_id"),
    ] {
        if let Some(id) = facts.metadata.optional_size(id)? {
            put(field, json!(id));
        }
    }
    facts.more(own, experts, &mut config)?;
    Ok(Json::Object(config))
}

/// A number that was a float32, as short as a float32 is written.
fn plain(number: f64) -> Json {
    let short = (number as f32).to_string();
    json!(short.parse::<f64>().unwrap_or(number))
}
