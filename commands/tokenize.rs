//! `mlxr tokenize`: text to tokens and back, and what there is to know of them.

mod chat;
mod compare;
mod count;
mod input;
mod show;
mod split;

use mlxr::files::ModelFiles;
use mlxr::tokenizer::{Choice, Spanned, Special, Tokenizer, TokenizerOptions};
use mlxr::{Error, Result, hub};
use serde_json::{Value, json};

use crate::args::{EngineChoice, Switch, Tokenize};
use crate::model::BUILT_IN;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};
use crate::ui::progress::Drawn;
use input::Input;

/// Does what the arguments ask for.
pub(crate) fn run(args: &Tokenize, settings: &Settings, printer: Printer) -> Result<Exit> {
    if args.split.is_some_and(|size| args.overlap >= size) {
        return Err(Error::Request {
            field: "overlap",
            problem:
                "parts cannot have all of their tokens in common: name fewer than --split does"
                    .to_owned(),
        });
    }
    let progress = Drawn::new(printer);
    let files = |name: Option<&str>| match name {
        Some(name) => hub::resolve_tokenizer(name, &Settings::hub()?, &progress),
        None => Ok(BUILT_IN),
    };
    let files_of_model = files(args.model.as_deref().or(settings.model.as_deref()))?;
    let tokenizer = load(&files_of_model, args.engine, settings)?;
    if let Some(why) = tokenizer.reference_reason() {
        printer.detail(format_args!("the reference engine does the work: {why}"));
    }
    let job = Job { args, tokenizer };
    if args.verify {
        let reference = load(&files_of_model, EngineChoice::Reference, settings)?;
        return compare::verify(&job, &reference, &input::read(args)?);
    }
    if let Some(other) = &args.diff {
        let other = load(&files(Some(other))?, args.engine, settings)?;
        return compare::diff(&job, &other, &input::read(args)?, printer);
    }
    if args.jsonl {
        return input::each_line(args, |line| job.line(line)).map(|()| Exit::Success);
    }
    let is_other = args.json || args.bos || args.decode || args.chat || args.split.is_some();
    if args.count && !is_other {
        return count::show(&job).map(|()| Exit::Success);
    }
    let inputs = input::read(args)?;
    if args.decode {
        for input in &inputs {
            printer::bytes(&job.decode(&input.text)?)?;
        }
    } else if args.chat {
        for input in &inputs {
            chat::show(&job, &input.text, settings.terminals.stdout)?;
        }
    } else if let Some(size) = args.split {
        for input in &inputs {
            split::show(&job, &input.text, size)?;
        }
    } else {
        show::show(&job, &inputs)?;
    }
    printer::flush()?;
    Ok(Exit::Success)
}

fn load(files: &ModelFiles, engine: EngineChoice, settings: &Settings) -> Result<Tokenizer> {
    let choice = match engine {
        EngineChoice::Auto => Choice::Fastest,
        EngineChoice::Reference => Choice::Reference,
    };
    let tables = settings.tables();
    Tokenizer::load_with(files, &TokenizerOptions { choice, tables })
}

/// What is done with each text.
struct Job<'a> {
    args: &'a Tokenize,
    tokenizer: Tokenizer,
}

impl Job<'_> {
    fn special(&self) -> Special {
        match self.args.special {
            Switch::On => Special::Show,
            Switch::Off => Special::Hide,
        }
    }

    /// The tokens of a text; those that are put before it come from no byte.
    fn tokens(&self, text: &str) -> Result<Vec<Spanned>> {
        let mut tokens = self.tokenizer.encode_spanned(text, self.special())?;
        let prefix = self.tokenizer.prefix();
        let begun = tokens.len() >= prefix.len()
            && tokens
                .iter()
                .zip(prefix)
                .all(|(token, id)| token.token == *id);
        if self.args.bos && !begun {
            let before = prefix.iter().map(|id| Spanned {
                token: *id,
                begin: 0,
                end: 0,
            });
            tokens.splice(0..0, before);
        }
        Ok(tokens)
    }

    /// How many tokens a text has, with nothing before it.
    fn count(&self, text: &str) -> Result<usize> {
        self.tokenizer.count(text, self.special())
    }

    /// The text of a token as JSON has it: bytes that are no characters are replaced.
    fn piece(&self, id: u32) -> String {
        let bytes = self.tokenizer.piece(id).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// The bytes of ids, which may be separated by anything.
    fn decode(&self, text: &str) -> Result<Vec<u8>> {
        let words =
            text.split(|character: char| !character.is_ascii_alphanumeric() && character != '-');
        let ids = words.filter(|word| !word.is_empty()).map(|word| {
            let id = word
                .parse()
                .ok()
                .filter(|id| self.tokenizer.piece(*id).is_some());
            id.ok_or_else(|| Error::Request {
                field: "decode",
                problem: format!("{word} is not the id of a token"),
            })
        });
        let ids: Vec<u32> = ids.collect::<Result<_>>()?;
        Ok(self.tokenizer.decode_bytes(&ids, self.special()))
    }

    /// The answer to a line of JSON.
    fn line(&self, value: &Value) -> Result<Value> {
        if self.args.chat {
            return chat::tokens(self, value);
        }
        let text = value
            .as_str()
            .or_else(|| value["text"].as_str())
            .ok_or_else(|| Error::Request {
                field: "text",
                problem: "a line is neither a string nor an object with a string in `text`"
                    .to_owned(),
            })?;
        let mut answer = if self.args.decode {
            json!({ "text": String::from_utf8_lossy(&self.decode(text)?) })
        } else if let Some(size) = self.args.split {
            json!({ "parts": split::parts(self, text, size)? })
        } else {
            show::object(self, text)?
        };
        if let Some(id) = value.get("id") {
            answer["id"] = id.clone();
        }
        Ok(answer)
    }
}
