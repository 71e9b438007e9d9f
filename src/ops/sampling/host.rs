//! Choosing by the CPU kernel, as one node of the graph.

use super::{Choice, ChoiceLogprobs};
use crate::error::Result;
use crate::kernels::sampling::{Choice as Chosen, Noise, choose as choose_from};
use crate::mlx::{Array, Buffer, BufferMut, Dtype, Element, Output, host_op};
use crate::sample::Sampling;

/// See [`super::choose`]; `seen` are the tokens that penalties look back on, int32.
pub(super) fn choose(
    logits: &Array,
    sampling: &Sampling,
    noise: Noise,
    seen: Option<&Array>,
) -> Result<Choice> {
    let logits = logits.as_dtype(Dtype::Float32)?;
    let inputs: Vec<&Array> = std::iter::once(&logits).chain(seen).collect();
    let size = i32::try_from(logits.size()).unwrap_or(i32::MAX);
    let top = sampling
        .logprobs
        .map(|top| i32::try_from(top).unwrap_or(size).min(size));
    let top_shape = [top.unwrap_or(0)];
    let outputs = [
        Output::new(&[1], Dtype::Int32),
        Output::new(&[1], Dtype::Float32),
        Output::new(&top_shape, Dtype::Int32),
        Output::new(&top_shape, Dtype::Float32),
    ];
    let outputs = &outputs[..if top.is_some() { 4 } else { 1 }];
    let own = sampling.clone();
    let function = move |inputs: &[Buffer<'_>], outputs: &mut [BufferMut<'_>]| {
        let logits = inputs[0].as_slice().unwrap_or_default();
        let seen = inputs.get(1).and_then(Buffer::as_slice).unwrap_or_default();
        write(choose_from(logits, &own, seen, noise), outputs);
    };
    let mut results = host_op("sampling", &inputs, outputs, function)?;
    let rest = results.split_off(1);
    let logprobs = <[Array; 3]>::try_from(rest).ok();
    Ok(Choice {
        token: results.remove(0),
        logprobs: logprobs.map(|[chosen, top_tokens, top]| ChoiceLogprobs {
            chosen,
            top_tokens,
            top,
        }),
    })
}

/// Fills the node's outputs, which are the token and, where they are asked for, its log-probability,
/// the likeliest tokens and theirs.
fn write(chosen: Option<Chosen>, outputs: &mut [BufferMut<'_>]) {
    let token = chosen.as_ref().map_or(-1, |chosen| chosen.token as i32);
    fill(outputs.get_mut(0), std::iter::once(token));
    let Some(found) = chosen.and_then(|chosen| chosen.logprobs) else {
        // Nobody reads the rest, which the token of -1 tells.
        return;
    };
    fill(outputs.get_mut(1), std::iter::once(found.chosen));
    let (tokens, top): (Vec<i32>, Vec<f32>) = found
        .top
        .into_iter()
        .map(|(id, logprob)| (id as i32, logprob))
        .unzip();
    fill(outputs.get_mut(2), tokens.into_iter());
    fill(outputs.get_mut(3), top.into_iter());
}

fn fill<T: Element>(output: Option<&mut BufferMut<'_>>, values: impl Iterator<Item = T>) {
    let out = output.and_then(BufferMut::as_mut_slice);
    for (out, value) in out.into_iter().flatten().zip(values) {
        *out = value;
    }
}
