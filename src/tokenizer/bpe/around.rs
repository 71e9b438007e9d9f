//! What a post-processor puts around a text.

use serde_json::Value;

/// The tokens before a text and behind it; `None` where that is not known.
pub(super) fn around(processor: &Value) -> Option<(Vec<u32>, Vec<u32>)> {
    match processor["type"].as_str() {
        None if processor.is_null() => Some((Vec::new(), Vec::new())),
        Some("ByteLevel") => Some((Vec::new(), Vec::new())),
        Some("TemplateProcessing") => template(processor),
        Some("BertProcessing" | "RobertaProcessing") => {
            let id = |name: &str| Some(vec![u32::try_from(processor[name][1].as_u64()?).ok()?]);
            Some((id("cls")?, id("sep")?))
        }
        Some("Sequence") => {
            let (mut before, mut behind) = (Vec::new(), Vec::new());
            for processor in processor["processors"].as_array()? {
                let (outer_before, outer_behind) = around(processor)?;
                before.splice(0..0, outer_before);
                behind.extend(outer_behind);
            }
            Some((before, behind))
        }
        _ => None,
    }
}

fn template(processor: &Value) -> Option<(Vec<u32>, Vec<u32>)> {
    let (mut before, mut behind) = (Vec::new(), None);
    for step in processor["single"].as_array()? {
        if let Some(name) = step["SpecialToken"]["id"].as_str() {
            let ids = processor["special_tokens"][name]["ids"].as_array()?;
            for id in ids {
                behind
                    .as_mut()
                    .unwrap_or(&mut before)
                    .push(u32::try_from(id.as_u64()?).ok()?);
            }
        } else if step["Sequence"]["id"] == "A" && behind.is_none() {
            behind = Some(Vec::new());
        } else {
            return None;
        }
    }
    Some((before, behind?))
}
