//! `/tokenize`, `/detokenize` and `/apply-template`, as llama-server and vLLM have them.

use std::sync::Arc;

use axum::response::Response;
use mlxr::tokenizer::{Bos, Special, Tokenizer};
use serde_json::{Map, Value, json};

use super::asking::Asking;
use super::dialect::json_response;
use super::fields::Fields;
use super::models::{Served, blocking};
use super::openai::chat::conversation;
use super::question::Conversation;
use crate::wire::Failure;

/// The ids of a text or of a rendered conversation.
///
/// # Errors
/// Where there is nothing to encode.
pub(super) async fn tokenize(asking: Asking, mut fields: Fields) -> Result<Response, Failure> {
    let model: Option<String> = fields.take("model")?;
    let content: Option<String> = fields.take("content")?;
    let asked = if let Some(content) = content {
        Asked::Content {
            content,
            with_special: fields.take("add_special")?.unwrap_or(false),
            with_pieces: fields.take("with_pieces")?.unwrap_or(false),
        }
    } else if let Some(text) = fields.take("prompt")? {
        Asked::Text {
            text,
            with_special: fields.take("add_special_tokens")?.unwrap_or(true),
            with_texts: fields.take("return_token_strs")?.unwrap_or(false),
        }
    } else {
        fields.expect("add_special_tokens", &[false.into()]);
        Asked::Chat {
            with_texts: fields.take("return_token_strs")?.unwrap_or(false),
            conversation: conversation(&mut fields)?,
        }
    };
    // Text that spells a special token is that token.
    fields.expect("parse_special", &[true.into()]);
    asking.leave_out(fields)?;
    let lease = asking.lease(model.as_deref()).await?;
    let served = Arc::clone(lease.served());
    Ok(json_response(
        &blocking(move || asked.answer(&served)).await??,
    ))
}

/// The text of ids.
///
/// # Errors
/// Where there are none.
pub(super) async fn detokenize(asking: Asking, mut fields: Fields) -> Result<Response, Failure> {
    let model: Option<String> = fields.take("model")?;
    let tokens: Vec<u32> = fields.require("tokens")?;
    asking.leave_out(fields)?;
    let lease = asking.lease(model.as_deref()).await?;
    let tokenizer = &lease.served().read.tokenizer;
    if let Some(id) = tokens.iter().find(|id| tokenizer.piece(**id).is_none()) {
        return Err(Failure::field("tokens", format!("there is no token {id}")));
    }
    let text = tokenizer.decode(&tokens, Special::Show);
    // The one's name for it and the other's.
    Ok(json_response(&json!({"content": text, "prompt": text})))
}

/// The text that the model's template makes of a conversation.
///
/// # Errors
/// Where it refuses it.
pub(super) async fn apply_template(
    asking: Asking,
    mut fields: Fields,
) -> Result<Response, Failure> {
    let model: Option<String> = fields.take("model")?;
    let conversation = conversation(&mut fields)?;
    asking.leave_out(fields)?;
    let lease = asking.lease(model.as_deref()).await?;
    let served = Arc::clone(lease.served());
    let text = blocking(move || {
        let template = served.read.tokenizer.chat_template();
        template.and_then(|template| template.render(&conversation.chat()))
    });
    let text = text.await?.map_err(|error| Failure::of(&error))?;
    Ok(json_response(&json!({"prompt": text})))
}

enum Asked {
    /// llama-server's form.
    Content {
        content: String,
        with_special: bool,
        with_pieces: bool,
    },
    /// vLLM's form.
    Text {
        text: String,
        with_special: bool,
        with_texts: bool,
    },
    /// The same with messages.
    Chat {
        conversation: Conversation,
        with_texts: bool,
    },
}

impl Asked {
    fn answer(self, served: &Served) -> Result<Value, Failure> {
        let tokenizer = &served.read.tokenizer;
        let encode = |text: &str, with_special| {
            let bos = if with_special { Bos::Auto } else { Bos::Never };
            tokenizer
                .encode(text, bos)
                .map_err(|error| Failure::of(&error))
        };
        match self {
            Self::Content {
                content,
                with_special,
                with_pieces,
            } => {
                let tokens = encode(&content, with_special)?;
                let tokens: Value = if with_pieces {
                    tokens.iter().map(|id| piece(tokenizer, *id)).collect()
                } else {
                    tokens.into()
                };
                Ok(json!({"tokens": tokens}))
            }
            Self::Text {
                text,
                with_special,
                with_texts,
            } => Ok(counted(served, &encode(&text, with_special)?, with_texts)),
            Self::Chat {
                conversation,
                with_texts,
            } => {
                let prompt = tokenizer.encode_chat(&conversation.chat());
                let prompt = prompt.map_err(|error| Failure::of(&error))?;
                Ok(counted(served, &prompt.tokens, with_texts))
            }
        }
    }
}

/// Ids, and how many a sequence may have.
fn counted(served: &Served, tokens: &[u32], with_texts: bool) -> Value {
    let texts = with_texts.then(|| {
        let texts = tokens.iter().map(|id| text(&served.read.tokenizer, *id));
        texts.collect::<Vec<_>>()
    });
    json!({
        "count": tokens.len(),
        "max_model_len": served.child.facts().context,
        "tokens": tokens,
        "token_strs": texts,
    })
}

fn text(tokenizer: &Tokenizer, id: u32) -> String {
    String::from_utf8_lossy(tokenizer.piece(id).unwrap_or_default()).into_owned()
}

/// An id with its text, or with its bytes where they are none.
fn piece(tokenizer: &Tokenizer, id: u32) -> Value {
    let bytes = tokenizer.piece(id).unwrap_or_default();
    let piece = match str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => Value::from(bytes),
    };
    Value::Object(Map::from_iter([
        ("id".to_owned(), id.into()),
        ("piece".to_owned(), piece),
    ]))
}
