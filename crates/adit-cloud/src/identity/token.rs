//! Tokens: what was proven, until when, and our signature over it.
//!
//! ```text
//!   base64url(JSON of Claims) "." base64url(HMAC-SHA256 of the first part)
//! ```
//!
//! Whether a token is still good is [`super::verified`]'s.

use adit_model::{
    id::{DomainId, ProjectId},
    time::Timestamp,
};
use adit_store::{Commit, Store, Txn, keys};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq;

use crate::{cloud::StartError, network::Failure, region::User};

/// Where the key is kept.
const KEY: &str = "identity/key";
/// Longest token that is looked at, in bytes; ours have a few hundred.
const TOKEN_BYTES_MAX: usize = 4096;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// The user's id.
    pub(crate) user: String,
    /// What the token is good for.
    pub(crate) scope: Scope,
    /// How the user proved to be it.
    pub(crate) methods: Vec<String>,
    /// From when.
    pub(crate) issued: Timestamp,
    /// Until when.
    pub(crate) expires: Timestamp,
    /// Names this token, to tell it from others.
    pub(crate) audit: String,
    /// Names the token that was got by a password, and by which this one was; its own name, if it is that.
    pub(crate) chain: String,
    /// Fits the user's password as it was then.
    pub(crate) seal: String,
}

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// To ask for another token.
    Nothing,
    /// A project's resources.
    Project(ProjectId),
    /// An account.
    Domain(DomainId),
}

/// The key that signs tokens: drawn at the first start and kept in the store.
#[derive(Clone)]
pub(crate) struct TokenKey([u8; 32]);

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl TokenKey {
    /// The store's key, drawn now if it has none.
    pub(crate) async fn load(store: &dyn Store) -> Result<Self, StartError> {
        let read = async || store.get(KEY).await.map_err(Failure::from);
        let mut entry = read().await?;
        if entry.is_none() {
            let drawn: [u8; 32] = rand::random();
            let text = BASE64_URL_SAFE_NO_PAD.encode(drawn);
            let txn = Txn::new().absent(KEY).put(KEY, keys::encode(&text));
            // Whatever became of it, what the store has now is the key.
            let (Commit::Committed(_) | Commit::Conflict | Commit::Unknown) =
                store.commit(txn).await.map_err(Failure::from)?;
            entry = read().await?;
        }
        let value = entry.ok_or(StartError::TokenKey)?.value;
        let text: String = keys::decode(&value).map_err(|_| StartError::TokenKey)?;
        let bytes = BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| StartError::TokenKey)?;
        bytes.try_into().map(Self).map_err(|_| StartError::TokenKey)
    }

    /// What a token says of the password that its user had: the same for the same password, and without the key of no use.
    pub(crate) fn seal(&self, user: &User) -> String {
        let text = format!("seal\n{}\n{}", user.id, user.password.expose());
        BASE64_URL_SAFE_NO_PAD.encode(self.mac(text.as_bytes()))
    }

    fn mac(&self, payload: &[u8]) -> [u8; 32] {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length");
        mac.update(payload);
        mac.finalize().into_bytes().into()
    }

    /// The token that says this.
    pub(crate) fn sign(&self, claims: &Claims) -> String {
        #[expect(
            clippy::expect_used,
            reason = "claims are a struct of texts, which always has a JSON form"
        )]
        let json = serde_json::to_vec(claims).expect("claims have a JSON form");
        let payload = BASE64_URL_SAFE_NO_PAD.encode(json);
        let mac = BASE64_URL_SAFE_NO_PAD.encode(self.mac(payload.as_bytes()));
        format!("{payload}.{mac}")
    }

    /// What a token says, if we signed it.
    pub(crate) fn verify(&self, token: &[u8]) -> Option<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let dot = token.iter().position(|b| *b == b'.')?;
        let (payload, rest) = token.split_at(dot);
        let mac = BASE64_URL_SAFE_NO_PAD.decode(rest.get(1..)?).ok()?;
        if !bool::from(self.mac(payload).as_slice().ct_eq(&mac)) {
            return None;
        }
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims {
            user: "u".into(),
            scope: Scope::Nothing,
            methods: vec!["password".into()],
            issued: Timestamp::from_unix_s(0),
            expires: Timestamp::from_unix_s(3600),
            audit: "a".into(),
            chain: "a".into(),
            seal: "s".into(),
        }
    }

    #[test]
    fn only_what_was_signed_is_believed() {
        let key = TokenKey([7; 32]);
        let token = key.sign(&claims());
        assert_eq!(key.verify(token.as_bytes()), Some(claims()));
        assert_eq!(TokenKey([8; 32]).verify(token.as_bytes()), None);
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.verify(&bytes), None, "byte {at}");
            assert_eq!(key.verify(&token.as_bytes()[..at]), None, "cut at {at}");
        }
        for garbage in ["", ".", "..", "a.b", "é.é", &"x".repeat(10_000)] {
            assert_eq!(key.verify(garbage.as_bytes()), None);
        }
        assert_eq!(format!("{key:?}"), "[secret]");
    }
}
