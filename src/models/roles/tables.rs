//! The tables of names that architectures share, and those of one alone.

use super::Layout::{Dropped, Exact, Raised, Split, Stacked, Taps, Whole};
use super::Role::{
    Bias, Constant, Convolution, DeltaDecay, DeltaInput, DeltaOutput, Embedding, Head, Key, Latent,
    Mlp, Norm, Output, Query, RoutedExpert, Router, SharedExpert, Value,
};
use super::Side::{Down, Gate, Up};
use super::{Layout, Made, Role, TensorRule, Tensors, View};

type Rules = &'static [TensorRule];

const fn rule(name: &'static str, role: Role) -> TensorRule {
    laid(name, role, Whole)
}

const fn laid(name: &'static str, role: Role, layout: Layout) -> TensorRule {
    TensorRule { name, role, layout }
}

const fn made(name: &'static str, role: Role, view: View) -> Made {
    Made { name, role, view }
}

/// Embedding and head.
pub(in crate::models) const ENDS: Rules = &[
    rule("embed_tokens.weight", Embedding),
    rule("lm_head.weight", Head),
    rule("lm_head.bias", Bias),
];

/// Norms before attention and MLP, and at the end.
pub(in crate::models) const NORMS: Rules = &[
    rule("norm.weight", Norm),
    rule("layers.*.input_layernorm.weight", Norm),
    rule("layers.*.post_attention_layernorm.weight", Norm),
];

/// Norms around the MLP.
pub(in crate::models) const MORE_NORMS: Rules = &[
    rule("layers.*.pre_feedforward_layernorm.weight", Norm),
    rule("layers.*.post_feedforward_layernorm.weight", Norm),
];

/// [`NORMS`] and [`HEAD_NORMS`] that hold how far they are from 1.
pub(in crate::models) const RAISED_NORMS: Rules = &[
    laid("norm.weight", Norm, Raised),
    laid("layers.*.input_layernorm.weight", Norm, Raised),
    laid("layers.*.post_attention_layernorm.weight", Norm, Raised),
    laid("layers.*.self_attn.q_norm.weight", Norm, Raised),
    laid("layers.*.self_attn.k_norm.weight", Norm, Raised),
];

/// Norms of each query and key head.
pub(in crate::models) const HEAD_NORMS: Rules = &[
    rule("layers.*.self_attn.q_norm.weight", Norm),
    rule("layers.*.self_attn.k_norm.weight", Norm),
];

/// Attention with keys and values for groups of query heads.
pub(in crate::models) const ATTENTION: Rules = &[
    rule("layers.*.self_attn.q_proj.weight", Query),
    rule("layers.*.self_attn.k_proj.weight", Key),
    rule("layers.*.self_attn.v_proj.weight", Value),
    rule("layers.*.self_attn.o_proj.weight", Output),
    rule("layers.*.self_attn.q_proj.bias", Bias),
    rule("layers.*.self_attn.k_proj.bias", Bias),
    rule("layers.*.self_attn.v_proj.bias", Bias),
    rule("layers.*.self_attn.o_proj.bias", Bias),
    laid(
        "layers.*.self_attn.rotary_emb.inv_freq",
        Constant,
        Dropped("it follows from the configuration"),
    ),
];

/// Weights of attention that go to no token.
pub(in crate::models) const SINKS: Rules = &[rule("layers.*.self_attn.sinks", Constant)];

/// Latent attention (DeepSeek-V2, arXiv:2405.04434).
pub(in crate::models) const LATENT: Rules = &[
    rule("layers.*.self_attn.q_proj.weight", Query),
    rule("layers.*.self_attn.q_a_proj.weight", Latent),
    rule("layers.*.self_attn.q_a_proj.bias", Bias),
    rule("layers.*.self_attn.q_a_layernorm.weight", Norm),
    rule("layers.*.self_attn.q_b_proj.weight", Query),
    rule("layers.*.self_attn.kv_a_proj_with_mqa.weight", Latent),
    rule("layers.*.self_attn.kv_a_proj_with_mqa.bias", Bias),
    rule("layers.*.self_attn.kv_a_layernorm.weight", Norm),
    laid(
        "layers.*.self_attn.kv_b_proj.weight",
        Latent,
        Split(&[
            made(
                "layers.*.self_attn.embed_q.weight",
                Latent,
                View::FirstOfHeads("qk_nope_head_dim", "v_head_dim"),
            ),
            made(
                "layers.*.self_attn.unembed_out.weight",
                Latent,
                View::LastOfHeads("qk_nope_head_dim", "v_head_dim"),
            ),
        ]),
    ),
    rule("layers.*.self_attn.embed_q.weight", Latent),
    rule("layers.*.self_attn.unembed_out.weight", Latent),
    rule("layers.*.self_attn.o_proj.weight", Output),
    rule("layers.*.self_attn.o_proj.bias", Bias),
];

/// Gated delta layers (Yang et al., arXiv:2412.06464), projections together or each by itself.
pub(in crate::models) const DELTA: Rules = &[
    rule("layers.*.linear_attn.in_proj_qkvz.weight", DeltaInput),
    rule("layers.*.linear_attn.in_proj_qkv.weight", DeltaInput),
    rule("layers.*.linear_attn.in_proj_z.weight", DeltaInput),
    rule("layers.*.linear_attn.in_proj_ba.weight", DeltaDecay),
    rule("layers.*.linear_attn.in_proj_a.weight", DeltaDecay),
    rule("layers.*.linear_attn.in_proj_b.weight", DeltaDecay),
    rule("layers.*.linear_attn.out_proj.weight", DeltaOutput),
    laid("layers.*.linear_attn.conv1d.weight", Convolution, Taps),
    rule("layers.*.linear_attn.norm.weight", Norm),
    laid("layers.*.linear_attn.A_log", Constant, Exact),
    rule("layers.*.linear_attn.dt_bias", Constant),
];

/// A gated MLP in each layer.
pub(in crate::models) const GATED_MLP: Rules = &[
    rule("layers.*.mlp.gate_proj.weight", Mlp(Gate)),
    rule("layers.*.mlp.up_proj.weight", Mlp(Up)),
    rule("layers.*.mlp.down_proj.weight", Mlp(Down)),
    rule("layers.*.mlp.gate_proj.bias", Bias),
    rule("layers.*.mlp.up_proj.bias", Bias),
    rule("layers.*.mlp.down_proj.bias", Bias),
];

const SWITCH_GATE: &str = "layers.*.mlp.switch_mlp.gate_proj.weight";
const SWITCH_UP: &str = "layers.*.mlp.switch_mlp.up_proj.weight";
const SWITCH_DOWN: &str = "layers.*.mlp.switch_mlp.down_proj.weight";

/// Experts behind a router: each by itself, gates joined with what they gate, or stacked as mlx-lm has them.
pub(in crate::models) const ROUTED_EXPERTS: Rules = &[
    laid(
        "layers.*.mlp.experts.*.gate_proj.weight",
        RoutedExpert(Gate),
        Stacked(SWITCH_GATE),
    ),
    laid(
        "layers.*.mlp.experts.*.up_proj.weight",
        RoutedExpert(Up),
        Stacked(SWITCH_UP),
    ),
    laid(
        "layers.*.mlp.experts.*.down_proj.weight",
        RoutedExpert(Down),
        Stacked(SWITCH_DOWN),
    ),
    laid(
        "layers.*.mlp.experts.gate_up_proj",
        RoutedExpert(Gate),
        Split(&[
            made(SWITCH_GATE, RoutedExpert(Gate), View::Half(0)),
            made(SWITCH_UP, RoutedExpert(Up), View::Half(1)),
        ]),
    ),
    laid(
        "layers.*.mlp.experts.down_proj",
        RoutedExpert(Down),
        Split(&[made(SWITCH_DOWN, RoutedExpert(Down), View::Whole)]),
    ),
    rule(SWITCH_GATE, RoutedExpert(Gate)),
    rule(SWITCH_UP, RoutedExpert(Up)),
    rule(SWITCH_DOWN, RoutedExpert(Down)),
];

/// What chooses experts, a matrix like others.
pub(in crate::models) const ROUTER: Rules = &[rule("layers.*.mlp.gate.weight", Router)];

/// The expert that every token takes, and how much of it, as Qwen's models name it.
pub(in crate::models) const SHARED_EXPERT: Rules = &[
    rule("layers.*.mlp.shared_expert_gate.weight", Router),
    rule(
        "layers.*.mlp.shared_expert.gate_proj.weight",
        SharedExpert(Gate),
    ),
    rule(
        "layers.*.mlp.shared_expert.up_proj.weight",
        SharedExpert(Up),
    ),
    rule(
        "layers.*.mlp.shared_expert.down_proj.weight",
        SharedExpert(Down),
    ),
];

/// The same as GLM's models name it, and a router that is computed with as it is, with what corrects its scores.
pub(in crate::models) const SHARED_EXPERTS: Rules = &[
    laid("layers.*.mlp.gate.weight", Router, Exact),
    laid("layers.*.mlp.gate.e_score_correction_bias", Constant, Exact),
    rule(
        "layers.*.mlp.shared_experts.gate_proj.weight",
        SharedExpert(Gate),
    ),
    rule(
        "layers.*.mlp.shared_experts.up_proj.weight",
        SharedExpert(Up),
    ),
    rule(
        "layers.*.mlp.shared_experts.down_proj.weight",
        SharedExpert(Down),
    ),
];

const OSS_GATE: &str = "layers.*.mlp.experts.gate_proj.weight";
const OSS_UP: &str = "layers.*.mlp.experts.up_proj.weight";
const OSS_DOWN: &str = "layers.*.mlp.experts.down_proj.weight";
const OSS_GATE_BIAS: &str = "layers.*.mlp.experts.gate_proj.bias";
const OSS_UP_BIAS: &str = "layers.*.mlp.experts.up_proj.bias";
const OSS_DOWN_BIAS: &str = "layers.*.mlp.experts.down_proj.bias";

/// Experts of gpt-oss: the other way round with rows of gates and what they gate in turn, or as mlx-lm has them.
pub(in crate::models) const OSS_EXPERTS: Rules = &[
    rule("layers.*.mlp.router.weight", Router),
    rule("layers.*.mlp.router.bias", Bias),
    laid(
        "layers.*.mlp.experts.gate_up_proj",
        RoutedExpert(Gate),
        Split(&[
            made(OSS_GATE, RoutedExpert(Gate), View::TransposedEverySecond(0)),
            made(OSS_UP, RoutedExpert(Up), View::TransposedEverySecond(1)),
        ]),
    ),
    laid(
        "layers.*.mlp.experts.gate_up_proj_bias",
        Bias,
        Split(&[
            made(OSS_GATE_BIAS, Bias, View::EverySecond(0)),
            made(OSS_UP_BIAS, Bias, View::EverySecond(1)),
        ]),
    ),
    laid(
        "layers.*.mlp.experts.down_proj",
        RoutedExpert(Down),
        Split(&[made(OSS_DOWN, RoutedExpert(Down), View::Transposed)]),
    ),
    laid(
        "layers.*.mlp.experts.down_proj_bias",
        Bias,
        Split(&[made(OSS_DOWN_BIAS, Bias, View::Whole)]),
    ),
    rule(OSS_GATE, RoutedExpert(Gate)),
    rule(OSS_UP, RoutedExpert(Up)),
    rule(OSS_DOWN, RoutedExpert(Down)),
    rule(OSS_GATE_BIAS, Bias),
    rule(OSS_UP_BIAS, Bias),
    rule(OSS_DOWN_BIAS, Bias),
];

/// Models of Llama's shape.
pub(in crate::models) const PLAIN: Tensors = Tensors {
    rules: &[ENDS, NORMS, ATTENTION, GATED_MLP],
    saved_under: None,
    unused: &[],
};
