//! Who may ask: those who know a key if there are keys, and no page of another origin through somebody's browser.

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::asking::Server;
use super::dialect::Dialect;
use super::{ids, page};
use crate::wire::{Failure, Fault};

/// Where the name of a request stands in a response.
const REQUEST_ID: &str = "x-request-id";

/// Where the fields stand that were left out of a request.
pub(super) const LEFT_OUT: &str = "x-mlxr-left-out";

/// How long a browser may believe that it may ask.
const BELIEVED: Duration = Duration::from_secs(3600);

/// What tells browsers that pages of these origins may ask, and with which headers; `None` where there are none.
pub(super) fn other_origins(origins: &[String]) -> Option<CorsLayer> {
    let origin = match origins {
        [] => return None,
        some if some.iter().any(|origin| origin == "*") => AllowOrigin::any(),
        some => AllowOrigin::list(
            some.iter()
                .filter_map(|one| HeaderValue::from_str(one).ok()),
        ),
    };
    let shown = [
        HeaderName::from_static(REQUEST_ID),
        HeaderName::from_static(LEFT_OUT),
        RETRY_AFTER,
    ];
    Some(
        CorsLayer::new()
            .allow_origin(origin)
            .allow_methods([Method::GET, Method::POST])
            .allow_headers(AllowHeaders::mirror_request())
            .allow_private_network(true)
            .expose_headers(shown)
            .max_age(BELIEVED),
    )
}

/// Lets in who may ask, and sees to it that every request is answered.
pub(super) async fn guard(
    State(server): State<Arc<Server>>,
    request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    let begin = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let dialect = Dialect::of(&path);
    let mut response = match admit(&server, request.headers(), request.uri()) {
        Ok(()) => {
            let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
            answered.unwrap_or_else(|_| {
                let fault = "this is a fault of mlxr: please report what was asked";
                dialect.refuse(&Failure::new(Fault::Internal, fault))
            })
        }
        Err(failure) => dialect.refuse(&failure),
    };
    let id = ids::fresh("req_");
    server.printer.detail(format_args!(
        "{method} {path}: {} after {} ms ({id})",
        response.status().as_u16(),
        begin.elapsed().as_millis()
    ));
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    Ok(response)
}

/// Whether a request may be answered: who asks knows a key if there are keys, and no page of another origin asks
/// through somebody's browser.
fn admit(server: &Server, headers: &HeaderMap, uri: &Uri) -> Result<(), Failure> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let is_listed = |origin: &str| {
        server
            .origins
            .iter()
            .any(|listed| listed == "*" || listed == origin)
    };
    // A name that a page's owner has made mean this machine.
    if let Some(host) = text(HOST.as_str())
        && server.is_local
        && !is_this_machine(host)
        && !is_listed(&format!("http://{host}"))
    {
        let problem = format!("{host} is not this machine (--cors http://{host} would allow it)");
        return Err(Failure::new(Fault::Forbidden, problem));
    }
    if let Some(origin) = text(ORIGIN.as_str()) {
        let own = text(HOST.as_str()).is_some_and(|host| {
            origin
                .strip_prefix("http://")
                .or(origin.strip_prefix("https://"))
                == Some(host)
        });
        if !own && !is_listed(origin) {
            let problem = format!("pages of {origin} may not ask (--cors would allow it)");
            return Err(Failure::new(Fault::Forbidden, problem));
        }
    }
    let is_open =
        server.keys.is_empty() || uri.path().ends_with("/health") || page::is_file(uri.path());
    let bearer = text(AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
    let given = bearer.or(text("x-api-key")).unwrap_or_default();
    if is_open || server.keys.iter().any(|key| is_same(key, given)) {
        return Ok(());
    }
    Err(Failure::new(Fault::Key, "the key is missing or wrong"))
}

/// Whether the name by which a client has asked is one that only this machine can have.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    let name = name.unwrap_or_default();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

/// Compares without telling by its time where two differ.
fn is_same(key: &str, given: &str) -> bool {
    let differences = key.bytes().zip(given.bytes()).map(|(a, b)| a ^ b);
    key.len() == given.len() && differences.fold(0, |all, one| all | one) == 0
}
