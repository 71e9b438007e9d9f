//! What holds for all addresses: who may ask, how much, and how refusals look.

use serde_json::{Value, json};

use crate::support::{Response, Server, chat};

#[test]
fn bodies_that_are_none_are_refused() {
    let server = Server::new(&["--max-body", "1KiB"]);
    let refuse = |body: &str, status: u16| {
        let refused = server
            .request("POST", "/v1/completions", &[], body)
            .refused(status);
        refused["error"]["message"].as_str().unwrap().to_owned()
    };
    assert!(refuse("{", 400).starts_with("the body is not valid JSON"));
    assert!(refuse("[]", 400).starts_with("the body is no JSON object"));
    assert!(refuse(&"[".repeat(1000), 400).starts_with("the body is not valid JSON"));
    assert!(refuse(&"x".repeat(2000), 413).contains("1024 bytes"));
    assert_eq!(
        server.request("GET", "/v1/completions", &[], "").status,
        405
    );
    let refused = server.get("/v1/nothing").refused(404);
    assert_eq!(
        refused["error"]["message"],
        "there is nothing at /v1/nothing"
    );
    let response = server.get("/health");
    assert_eq!(response.json(), json!({"status": "ok"}));
    assert!(response.header("x-request-id").unwrap().starts_with("req_"));
}

#[test]
fn only_those_who_may_ask_are_answered() {
    let server = Server::new(&["--api-key", "secret", "--cors", "https://example.com"]);
    let models = |headers: &[(&str, &str)]| server.request("GET", "/v1/models", headers, "").status;
    assert_eq!(models(&[]), 401);
    assert_eq!(models(&[("authorization", "Bearer wrong")]), 401);
    assert_eq!(models(&[("authorization", "Bearer secret")]), 200);
    assert_eq!(models(&[("x-api-key", "secret")]), 200);
    assert_eq!(server.get("/health").status, 200);
    let refused = server
        .request("POST", "/v1/messages", &[], "{}")
        .refused(401);
    assert_eq!(refused["error"]["type"], "authentication_error");

    // A page elsewhere must not use the browser of somebody who may ask.
    let from = |origin: &str| models(&[("x-api-key", "secret"), ("origin", origin)]);
    assert_eq!(from("https://evil.example"), 403);
    assert_eq!(from("https://example.com"), 200);
    let ours = [("x-api-key", "secret"), ("origin", "https://example.com")];
    let admitted = server.request("GET", "/v1/models", &ours, "");
    let allowed = |response: &Response| {
        let origin = response.header("access-control-allow-origin");
        origin.map(str::to_owned)
    };
    assert_eq!(allowed(&admitted).as_deref(), Some("https://example.com"));
    // Before it sends a key, a browser asks whether it may.
    let preflight = |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,x-api-key"),
        ];
        server.request("OPTIONS", "/v1/chat/completions", &headers, "")
    };
    let answer = preflight("https://example.com");
    assert_eq!(
        (answer.status, allowed(&answer).as_deref()),
        (200, Some("https://example.com"))
    );
    let headers = answer.header("access-control-allow-headers");
    assert_eq!(headers, Some("content-type,x-api-key"));
    assert_eq!(allowed(&preflight("https://evil.example")), None);
    assert_eq!(from(&format!("http://{}", server.address)), 200);
    // Nor by a name of its own that it has made mean this machine.
    let by = |host: &str| models(&[("x-api-key", "secret"), ("host", host)]);
    assert_eq!(by("evil.example:80"), 403);
    assert_eq!(by("localhost:80"), 200);
    assert_eq!(by("[::1]:80"), 200);
}

#[test]
fn what_a_server_holds_can_be_looked_into() {
    let server = Server::new(&["--api-key", "secret"]);
    let key = [("x-api-key", "secret")];
    let asked = chat(&json!({})).to_string();
    let answered = server.request("POST", "/v1/chat/completions", &key, &asked);
    assert_eq!(answered.status, 200);
    let url = format!("http://{}", server.address);
    let inspect = |key: &str, arguments: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_mlxr"))
            .args([&["cache", "inspect", &url], arguments].concat())
            .env_clear()
            .env("MLXR_API_KEY", key)
            .output()
            .unwrap()
    };
    let rows = |arguments: &[&str]| -> Vec<Value> {
        let told = inspect("secret", &[&["--json"], arguments].concat());
        assert!(told.status.success(), "{told:?}");
        serde_json::from_slice(&told.stdout).unwrap()
    };
    let all = rows(&["--text"]);
    assert_eq!(
        (&all[0]["model"], &all[0]["start"]),
        (&json!("stories"), &json!(0))
    );
    assert!(
        all[0]["text"].as_str().unwrap().contains("Hello"),
        "{all:?}"
    );
    assert_eq!(rows(&["--find", "Hello"]).len(), all.len());
    assert_eq!(rows(&["--find", "nothing"]).len(), 0);
    assert!(rows(&[])[0].get("text").is_none());
    let refused = inspect("wrong", &[]);
    assert_eq!(refused.status.code(), Some(9));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("it answered 401"), "{said}");

    let metrics = server.request("GET", "/metrics", &key, "").body;
    for line in [
        "mlxr_answers_total 1",
        "mlxr_requests_open{model=\"stories\"} 0",
        "mlxr_failures_total 0",
    ] {
        assert!(metrics.lines().any(|own| own == line), "{metrics}");
    }
}
