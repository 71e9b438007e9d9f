//! GGUF's names of tensors, and how its numbers differ from those of transformers, as llama.cpp's converter makes them.

use super::Facts;

/// How a tensor differs from that of transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Not at all.
    None,
    /// Of each head, as many rows as this, the first row of the second half follows the first of the first, and so on.
    Interleaved(usize),
    /// Each number is 1 more.
    Raised,
}

/// What becomes of a tensor.
pub(super) enum Named {
    /// It has this name, and its numbers are changed so.
    As(String, Change),
    /// It is not needed.
    Dropped(&'static str),
}

/// Names outside of layers.
const ENDS: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// Names in a layer, without `.weight` or `.bias`.
const LAYER: [(&str, &str); 17] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("post_attention_norm", "post_attention_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ffn_gate_inp", "mlp.gate"),
    ("ffn_gate_exps", "mlp.switch_mlp.gate_proj"),
    ("ffn_up_exps", "mlp.switch_mlp.up_proj"),
    ("ffn_down_exps", "mlp.switch_mlp.down_proj"),
];

impl Facts<'_> {
    /// What becomes of a tensor of this name.
    pub(super) fn named(&self, name: &str) -> Result<Named, String> {
        let unknown = || {
            format!(
                "tensor {name} has no place in the architecture {}",
                self.architecture
            )
        };
        if name == "rope_freqs.weight" {
            return Ok(Named::Dropped("config.json says it"));
        }
        if let Some((_, known)) = ENDS.iter().find(|(own, _)| *own == name) {
            return Ok(Named::As((*known).to_owned(), self.change(name)?));
        }
        let (layer, rest) = name
            .strip_prefix("blk.")
            .and_then(|rest| rest.split_once('.'))
            .ok_or_else(unknown)?;
        let (own, end) = rest.rsplit_once('.').ok_or_else(unknown)?;
        let known = LAYER.iter().find(|(known, _)| *known == own);
        let (_, known) = known
            .filter(|_| layer.parse::<u32>().is_ok() && matches!(end, "weight" | "bias"))
            .ok_or_else(unknown)?;
        // Gemma's MLP has norms on both sides, and the one of that name is the one before it.
        let known = match own {
            "ffn_norm" if self.architecture == "gemma3" => "pre_feedforward_layernorm",
            _ => known,
        };
        Ok(Named::As(
            format!("model.layers.{layer}.{known}.{end}"),
            self.change(own)?,
        ))
    }

    fn change(&self, own: &str) -> Result<Change, String> {
        Ok(match (self.architecture, own) {
            ("llama", "attn_q" | "attn_k") => Change::Interleaved(self.head_width()?),
            ("gemma3", _) if own.trim_end_matches(".weight").ends_with("norm") => Change::Raised,
            _ => Change::None,
        })
    }
}
