//! Who may ask: the bearer token, and what a browser says about the page that made it ask.

use core::net::IpAddr;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::{Config, Network};
use crate::problem::Refusal;

/// Asks for the bearer token.
pub(crate) async fn authorize(
    State(config): State<Arc<Config>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let shown = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    match &config.bearer {
        Some(bearer) if !bearer.admits(shown) => Err(Refusal::unauthorized()),
        _ => Ok(next.run(request).await),
    }
}

/// Refuses what a page of another site makes a browser ask, and bodies that take their time. For every path.
pub(crate) async fn civil(
    State(config): State<Arc<Config>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let headers = request.headers();
    if is_of_another_site(headers) {
        return Err(Refusal::another_site());
    }
    // A page whose name was made to point here looks to the browser as if it were ours. Only where nothing else is asked
    // for would that be enough.
    if config.bearer.is_none() && config.network == Network::Detect && is_for_another_host(headers) {
        return Err(Refusal::another_host());
    }
    let deadline = Instant::now() + config.head_timeout;
    let request = request.map(|body| Body::new(InTime { body, late: Box::pin(sleep_until(deadline)) }));
    Ok(next.run(request).await)
}

/// A browser names the site whose page made it ask, unless it only reads from its own site.
fn is_of_another_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    let Some(origin) = text(header::ORIGIN) else { return false };
    let site = origin.split_once("://").map(|(_, site)| site);
    site.is_none() || site != text(header::HOST)
}

/// Neither an address in numbers nor a name without a dot, which nobody on the internet can own.
fn is_for_another_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return false };
    let Ok(host) = host.to_str() else { return true };
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.contains('.') && name.parse::<IpAddr>().is_err()
}

/// A body that has to have come by some time.
struct InTime {
    body: Body,
    late: Pin<Box<Sleep>>,
}

impl hyper::body::Body for InTime {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => {
                core::task::ready!(this.late.as_mut().poll(cx));
                Poll::Ready(Some(Err(axum::Error::new("the body did not come in time"))))
            }
            ready @ Poll::Ready(_) => ready,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
