//! OpenAI's interfaces.

use serde_json::{Value, json};

use crate::support::{Response, Server};

/// A question whose answer is always the same.
fn question() -> Value {
    json!({
        "model": "stories",
        "messages": [{"role": "user", "content": "Tell me a story about a whale"}],
        "seed": 7,
        "max_tokens": 24,
    })
}

fn with(fields: &Value) -> Value {
    let mut question = question();
    for (name, value) in fields.as_object().unwrap() {
        question[name] = value.clone();
    }
    question
}

/// The JSON of a stream's events, which end as they should.
#[track_caller]
fn chunks(response: &Response) -> Vec<Value> {
    let mut events = response.events();
    assert_eq!(events.pop(), Some((String::new(), "[DONE]".to_owned())));
    let chunks = events
        .iter()
        .map(|(_, data)| serde_json::from_str(data).unwrap());
    chunks.collect()
}

fn texts(chunks: &[Value], pointer: &str) -> String {
    let texts = chunks
        .iter()
        .filter_map(|chunk| chunk.pointer(pointer)?.as_str());
    texts.collect()
}

#[test]
fn a_chat_is_answered_alike_whole_and_as_a_stream() {
    let server = Server::new(&[]);
    let whole = server.post("/v1/chat/completions", &question()).json();
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["model"], "stories");
    assert!(whole["id"].as_str().unwrap().starts_with("chatcmpl-"));
    let choice = &whole["choices"][0];
    assert_eq!(choice["index"], 0);
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(choice["logprobs"], Value::Null);
    assert_eq!(choice["message"]["role"], "assistant");
    let text = choice["message"]["content"].as_str().unwrap();
    assert!(text.len() > 40, "{text}");
    let usage = &whole["usage"];
    assert_eq!(usage["completion_tokens"], 24);
    let prompt = usage["prompt_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], prompt + 24);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);

    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let response = server.post("/v1/chat/completions", &with(&options));
    assert_eq!(
        response.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    let chunks = chunks(&response);
    let first = &chunks[0];
    assert_eq!(
        first["choices"][0]["delta"],
        json!({"role": "assistant", "content": ""})
    );
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(
            (&chunk["id"], &chunk["created"]),
            (&first["id"], &first["created"])
        );
    }
    assert_eq!(texts(&chunks, "/choices/0/delta/content"), text);
    let (last, before) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    // All but the last token of the same prompt is known by now.
    assert_eq!(
        last["usage"]["prompt_tokens_details"]["cached_tokens"],
        prompt - 1
    );
    assert_eq!(
        before.last().unwrap()["choices"][0]["finish_reason"],
        "length"
    );
    assert!(before.iter().all(|chunk| chunk["usage"].is_null()));
}

#[test]
fn several_choices_are_several_answers() {
    let server = Server::new(&[]);
    let whole = server
        .post("/v1/chat/completions", &with(&json!({"n": 3})))
        .json();
    let text = |index: usize| {
        whole["choices"][index]["message"]["content"]
            .as_str()
            .unwrap()
    };
    let mut all = vec![text(0), text(1), text(2)];
    let alone = server.post("/v1/chat/completions", &question()).json();
    assert_eq!(alone["choices"][0]["message"]["content"], all[0]);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(whole["usage"]["completion_tokens"], 3 * 24);
    assert_eq!(
        whole["usage"]["prompt_tokens"],
        alone["usage"]["prompt_tokens"]
    );

    let streamed = with(&json!({"n": 3, "stream": true}));
    let chunks = chunks(&server.post("/v1/chat/completions", &streamed));
    for index in 0..3 {
        let own = chunks
            .iter()
            .filter(|chunk| chunk["choices"][0]["index"] == index);
        let own: Vec<Value> = own.cloned().collect();
        let wanted = whole["choices"][index]["message"]["content"]
            .as_str()
            .unwrap();
        assert_eq!(texts(&own, "/choices/0/delta/content"), wanted);
    }
}

#[test]
fn stop_strings_bias_and_logprobs_are_honoured() {
    let server = Server::new(&[]);
    let ask = |fields: Value| server.post("/v1/chat/completions", &with(&fields)).json();
    let free = ask(json!({}))["choices"][0].clone();
    let text = free["message"]["content"].as_str().unwrap();
    let stop = &text[20..24];
    let stopped = ask(json!({"stop": [stop]}))["choices"][0].clone();
    assert_eq!(stopped["finish_reason"], "stop");
    assert_eq!(
        stopped["message"]["content"],
        text[..text.find(stop).unwrap()]
    );

    let told = ask(json!({"logprobs": true, "top_logprobs": 2, "temperature": 0}));
    let content = told["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(content.len(), 24);
    let mut bytes = Vec::new();
    for token in &content {
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2);
        assert_eq!(token["top_logprobs"][0]["logprob"], token["logprob"]);
        let own: Vec<u8> = serde_json::from_value(token["bytes"].clone()).unwrap();
        bytes.extend(own);
    }
    let text = told["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);

    // A token that is forbidden does not come, one that is wanted comes always.
    let tokens =
        json!({"model": "stories", "prompt": "Once", "max_tokens": 4, "logit_bias": {"65": 100}});
    let forced = server.post("/v1/completions", &tokens).json();
    let forced = forced["choices"][0]["text"].as_str().unwrap().to_owned();
    assert_eq!(forced.len() % 4, 0);
    assert_eq!(forced[..forced.len() / 4].repeat(4), forced);
}

#[test]
fn texts_and_tokens_are_completed() {
    let server = Server::new(&[]);
    let base =
        json!({"model": "stories", "seed": 3, "max_tokens": 8, "prompt": ["Once upon", "The cat"]});
    let ask = |fields: Value| {
        let mut asked = base.clone();
        for (name, value) in fields.as_object().unwrap() {
            asked[name] = value.clone();
        }
        server.post("/v1/completions", &asked)
    };
    let both = ask(json!({})).json();
    assert_eq!(both["object"], "text_completion");
    assert!(both["id"].as_str().unwrap().starts_with("cmpl-"));
    let second = ask(json!({"prompt": "The cat"})).json();
    assert_eq!(both["choices"][1]["text"], second["choices"][0]["text"]);
    assert_eq!(both["usage"]["completion_tokens"], 16);

    let echoed = ask(json!({"echo": true})).json();
    let text = both["choices"][0]["text"].as_str().unwrap();
    assert_eq!(echoed["choices"][0]["text"], format!("Once upon{text}"));
    let chunks = chunks(&ask(json!({"echo": true, "stream": true})));
    let own = chunks
        .iter()
        .filter(|chunk| chunk["choices"][0]["index"] == 1);
    let own: Vec<Value> = own.cloned().collect();
    assert_eq!(
        texts(&own, "/choices/0/text"),
        format!("The cat{}", second["choices"][0]["text"].as_str().unwrap())
    );

    let told = ask(json!({"logprobs": 3, "prompt": "The cat"})).json();
    let logprobs = &told["choices"][0]["logprobs"];
    let tokens: Vec<String> = serde_json::from_value(logprobs["tokens"].clone()).unwrap();
    assert_eq!(
        tokens.concat(),
        told["choices"][0]["text"].as_str().unwrap()
    );
    assert_eq!(logprobs["text_offset"][1], tokens[0].len());
    assert_eq!(logprobs["token_logprobs"].as_array().unwrap().len(), 8);
    assert_eq!(logprobs["top_logprobs"][0].as_object().unwrap().len(), 3);
}

#[test]
fn how_likely_a_prompt_is_can_be_asked() {
    let server = Server::new(&["--cpu-exact"]);
    let ask = |fields: Value| {
        let mut body = json!({"temperature": 0, "logprobs": 2});
        let fields = fields.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        server.post("/v1/completions", &body)
    };
    let said = ask(json!({"prompt": "The cat", "max_tokens": 9})).json();
    let (answer, alone) = (&said["choices"][0]["text"], &said["choices"][0]["logprobs"]);
    let whole = format!("The cat{}", answer.as_str().unwrap());
    let ids = server.post("/tokenize", &json!({"prompt": whole})).json()["tokens"].clone();
    // By its text and by its tokens; what was cached of it meanwhile changes nothing.
    for prompt in [json!([whole, "A"]), json!([ids])] {
        let told = ask(json!({"prompt": prompt, "echo": true, "max_tokens": 1})).json();
        let choice = &told["choices"][0];
        assert!(choice["text"].as_str().unwrap().starts_with(&whole));
        let list = |name: &str| choice["logprobs"][name].as_array().unwrap();
        assert_eq!(list("tokens").len(), ids.as_array().unwrap().len() + 1);
        assert_eq!(
            (&list("token_logprobs")[0], &list("top_logprobs")[0]),
            (&Value::Null, &Value::Null)
        );
        let begin = list("tokens").len() - 10;
        for (at, logprob) in alone["token_logprobs"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
        {
            let again = list("token_logprobs")[begin + at].as_f64().unwrap();
            assert!(
                (again - logprob.as_f64().unwrap()).abs() < 1e-3,
                "{again} and {logprob}"
            );
            let likeliest = list("top_logprobs")[begin + at].as_object().unwrap();
            assert_eq!(likeliest.len(), 2);
            let name = list("tokens")[begin + at].as_str().unwrap();
            assert_eq!(likeliest[name], list("token_logprobs")[begin + at]);
        }
        assert_eq!(list("text_offset")[begin], "The cat".len());
        assert_eq!(told["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    }
    let alone = ask(json!({"prompt": "The cat", "echo": true, "max_tokens": 0})).json();
    assert_eq!(alone["choices"][0]["text"], "The cat");
    let tokens = alone["choices"][0]["logprobs"]["tokens"].as_array();
    assert!(tokens.unwrap().len() > 1);
    let streamed = ask(json!({"prompt": "a", "echo": true, "stream": true})).refused(400);
    assert_eq!(streamed["error"]["param"], "logprobs");
}

#[test]
fn models_are_listed_by_name() {
    let server = Server::new(&[]);
    let all = server.get("/v1/models").json();
    assert_eq!(all["data"][0]["id"], "stories");
    assert_eq!(server.get("/models/stories").json()["object"], "model");
    let missing = server.get("/v1/models/none").refused(404);
    assert_eq!(missing["error"]["code"], "model_not_found");
}
