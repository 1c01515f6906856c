//! A client that holds a token of a name, as any program may.

use anyhow::{Result, bail};
use cuttlebone_http::Client;
use cuttlebone_http::message::{Event, LeaseTerms, RegisterRequest, TakeoverName, TokenRequest};

/// What has to be kept for the token to stay out, and its fence.
pub(crate) async fn hold(client: &Client, name: &str) -> Result<(impl Sized + use<>, String)> {
    let request = RegisterRequest {
        name: name.into(),
        takeover: TakeoverName::Wait,
        limit: Some(1),
        lease: LeaseTerms::Response,
    };
    let mut owner = client.register(&request).await?;
    let Event::Registered { epoch, .. } = owner.held(|_| {}).await? else { bail!("no registration") };
    let request = TokenRequest { epoch: Some(epoch), slots: 1, wait: true, ..Default::default() };
    let mut token = client.token(name, &request).await?;
    let Event::Granted { fence, .. } = token.held(|_| {}).await? else { bail!("no token") };
    Ok(((owner, token), fence))
}
