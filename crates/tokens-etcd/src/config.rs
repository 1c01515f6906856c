use core::fmt;
use core::time::Duration;

use etcd_client::ConnectOptions;

/// Where etcd is, how to speak to it, and which key is ours.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// Its members, as `host:port`, `http://host:port` or `https://host:port`.
    pub endpoints: Vec<String>,
    /// The key that holds the next free epoch; the same for all registries that share an order.
    pub key: String,
    /// User and password, where etcd asks for them.
    pub user: Option<(String, String)>,
    /// After how long a request without an answer fails.
    pub timeout: Duration,
    /// TLS, where etcd wants it.
    #[cfg(feature = "tls")]
    pub tls: Option<etcd_client::TlsOptions>,
}

impl Config {
    /// The key `cuttlebone/epochs`, without authentication.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            key: "cuttlebone/epochs".into(),
            user: None,
            timeout: Duration::from_secs(5),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Another key.
    #[must_use]
    pub fn with_key(self, key: impl Into<String>) -> Self {
        Self { key: key.into(), ..self }
    }

    /// As this user.
    #[must_use]
    pub fn with_user(self, name: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: Some((name.into(), password.into())), ..self }
    }

    /// Gives up sooner or later.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Over TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(self, tls: etcd_client::TlsOptions) -> Self {
        Self { tls: Some(tls), ..self }
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_timeout(self.timeout)
            .with_connect_timeout(self.timeout)
            // A member that is gone without a word is noticed by its silence.
            .with_keep_alive(self.timeout, self.timeout)
            .with_keep_alive_while_idle(true)
            // A member without a leader says so at once instead of waiting for one.
            .with_require_leader(true);
        if let Some((name, password)) = &self.user {
            options = options.with_user(name, password).with_auto_token_refresh(true);
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            options = options.with_tls(tls.clone());
        }
        options
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map(|(name, _)| (name, "[redacted]"));
        f.debug_struct("Config")
            .field("endpoints", &self.endpoints)
            .field("key", &self.key)
            .field("user", &user)
            .finish_non_exhaustive()
    }
}
