//! Compiles and runs templates within bounds: they are programs by strangers. Knows nothing of chats.

use std::fmt::Display;
use std::thread;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value};

use super::python;
use crate::error::{Error, Result};

/// The name that errors give the template.
const NAME: &str = "chat_template";

/// Steps that a template may take before it counts as endless; real ones take a few thousand for
/// a short chat. A step also pays for 64 bytes of data, so this bounds the text as well.
const STEPS: u64 = 2_000_000;

/// Further steps for each pair of messages: some templates look at all messages for each message.
const STEPS_PER_PAIR: u64 = 4;

/// What pairs of messages cannot raise the steps above.
const MAX_STEPS: u64 = 4 * STEPS;

/// Templates run on a stack of their own: values that they nest are dropped, written and compared
/// recursively, as deep as their steps let them nest. The worst seen is 450 bytes for each step.
/// It is address space; hardly any of it is used.
const STACK_BYTES_PER_STEP: u64 = 512;

/// The longest template that is compiled. Compiling is not bounded by steps.
const MAX_SOURCE_BYTES: usize = 1 << 18;

/// A compiled template.
#[derive(Debug)]
pub(super) struct Program(Environment<'static>);

impl Program {
    /// # Errors
    /// [`Error::Template`] where the source is not a template.
    pub(super) fn compile(source: &str) -> Result<Self> {
        if source.len() > MAX_SOURCE_BYTES {
            return Err(Error::Template(format!(
                "it has more than {MAX_SOURCE_BYTES} bytes"
            )));
        }
        let mut environment = python::environment();
        // Python's renderer writes neither the line break after a block tag nor the spaces before.
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.map_err(|error| refusal(&error))?);
        let source = without_generation_tags(source);
        on_deep_stack(STEPS, move || {
            environment
                .add_template_owned(NAME, source)
                .map_err(|error| refusal(&error))?;
            Ok(Self(environment))
        })
    }

    /// The text that the template makes of `variables`, among them so many messages.
    ///
    /// # Errors
    /// [`Error::Template`] with the template's own words where it raised an error; where it fails;
    /// where it does not end.
    pub(super) fn run(&self, variables: Value, messages: usize) -> Result<String> {
        let pairs = (messages as u64).saturating_mul(messages as u64);
        let steps = STEPS
            .saturating_add(pairs.saturating_mul(STEPS_PER_PAIR))
            .min(MAX_STEPS);
        let mut environment = self.0.clone();
        environment.set_fuel(Some(steps));
        on_deep_stack(steps, move || {
            let template = environment
                .get_template(NAME)
                .map_err(|error| refusal(&error))?;
            template.render(variables).map_err(|error| refusal(&error))
        })
    }
}

/// Python's renderer knows `{% generation %}`, which marks what the model wrote and is a scope for
/// variables. Only the scope matters here.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(tag) = rest.find("{%") {
        let (before, inside) = rest.split_at(tag + 2);
        result.push_str(before);
        let word = inside.trim_start_matches(['-', '+']).trim_start();
        result.push_str(&inside[..inside.len() - word.len()]);
        rest = word;
        for (name, scope) in [("generation", "with"), ("endgeneration", "endwith")] {
            if let Some(after) = word.strip_prefix(name)
                && after
                    .trim_start()
                    .trim_start_matches(['-', '+'])
                    .starts_with("%}")
            {
                result.push_str(scope);
                rest = after;
            }
        }
    }
    result + rest
}

/// What is told about a template that failed: its own words where it raised the error itself.
fn refusal(error: &minijinja::Error) -> Error {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(current) = cause {
        if let Some(raised) = current.downcast_ref::<python::Raised>() {
            return Error::Template(raised.to_string());
        }
        if let Some(inner) = current.downcast_ref::<minijinja::Error>()
            && inner.kind() == ErrorKind::OutOfFuel
        {
            return Error::Template("it takes too many steps or too much memory".to_owned());
        }
        cause = current.source();
    }
    Error::Template(error.to_string())
}

/// Runs on a stack that suffices for so many steps.
fn on_deep_stack<T: Send>(steps: u64, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let failed = |problem: &dyn Display| Error::Template(format!("could not run it: {problem}"));
    let stack = usize::try_from(steps * STACK_BYTES_PER_STEP).map_err(|error| failed(&error))?;
    thread::scope(|scope| {
        let builder = thread::Builder::new()
            .name(NAME.to_owned())
            .stack_size(stack);
        let thread = builder
            .spawn_scoped(scope, work)
            .map_err(|error| failed(&error))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(failed(&"its thread panicked")))
    })
}
