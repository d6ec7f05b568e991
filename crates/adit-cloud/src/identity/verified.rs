//! Tokens that are good: what was found out about each, kept so that it is found out once.
//!
//! Kept is what cannot change while the process runs: that we signed the token, what it says, and who that is in the region
//! file. Whether it has lapsed or was revoked is asked each time. A token is looked up by its digest, so that the time that
//! takes tells nothing about it.
//!
//! A revocation is a key of the store, `identity/revoked/{audit id}`, with the second that the token lapses at; every replica
//! reads it in its cache, and the next revocation after that second removes it.

use std::{collections::HashMap, mem, sync::Arc};

use adit_model::time::Timestamp;
use adit_server::{Caller, Rejection};
use adit_store::{State, Txn, keys};
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Claims, accounts::Named};
use crate::{cloud::Cloud, network::Failure};

/// Below this, the keys of revocations.
const REVOKED: &str = "identity/revoked/";
/// How many tokens are remembered in each of two halves, of about one kilobyte each.
const HALF_MAX: usize = 8192;
/// How many lapsed revocations are removed with a new one.
const SWEEP_MAX: usize = 32;

/// A token that we signed, for somebody who is still in the region file.
#[derive(Debug)]
pub(crate) struct Verified {
    /// What it says.
    pub(crate) claims: Claims,
    /// Who that is.
    pub(crate) caller: Arc<Caller>,
    /// The keys that would revoke it: its own, and that of the token that it was got by.
    revocations: [String; 2],
}

/// What is remembered. When the young half is full it becomes the old one, and what the old one had is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Memory(RwLock<Halves>);

#[derive(Debug, Default)]
struct Halves {
    young: HashMap<[u8; 32], Arc<Verified>>,
    old: HashMap<[u8; 32], Arc<Verified>>,
}

impl Memory {
    fn get(&self, digest: &[u8; 32]) -> Option<Arc<Verified>> {
        let halves = self.0.read();
        if let Some(known) = halves.young.get(digest) {
            return Some(Arc::clone(known));
        }
        let known = Arc::clone(halves.old.get(digest)?);
        drop(halves);
        self.put(*digest, Arc::clone(&known));
        Some(known)
    }

    fn put(&self, digest: [u8; 32], verified: Arc<Verified>) {
        let mut halves = self.0.write();
        if halves.young.len() >= HALF_MAX {
            halves.old = mem::take(&mut halves.young);
        }
        halves.young.insert(digest, verified);
    }
}

impl Cloud {
    /// What a token says and whose it is, if it is good now.
    pub(crate) fn verify(&self, token: &[u8]) -> Result<Arc<Verified>, Rejection> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let verified = match self.verified.get(&digest) {
            Some(known) => known,
            None => {
                let verified = Arc::new(self.verify_anew(token)?);
                self.verified.put(digest, Arc::clone(&verified));
                verified
            }
        };
        let Claims { expires, .. } = verified.claims;
        if expires <= self.now() {
            return Err(Rejection::Invalid(format!("The token expired at {expires}.")));
        }
        let state = self.cache.read();
        if verified.revocations.iter().any(|key| state.other(key).is_some()) {
            return Err(Rejection::Invalid("The token was revoked.".to_owned()));
        }
        drop(state);
        Ok(verified)
    }

    fn verify_anew(&self, token: &[u8]) -> Result<Verified, Rejection> {
        let claims = self
            .token_key
            .verify(token)
            .ok_or_else(|| Rejection::Invalid("The token is not one of this region's.".to_owned()))?;
        let account = self.region.account(&Named::Id(claims.user.clone()), None);
        let caller = account.and_then(|account| Some((account, account.caller(&claims.scope)?)));
        let (account, caller) = caller.ok_or_else(|| {
            Rejection::Invalid("The token's user or scope is no longer part of the region.".to_owned())
        })?;
        let seal = self.token_key.seal(account.user);
        if !bool::from(seal.as_bytes().ct_eq(claims.seal.as_bytes())) {
            return Err(Rejection::Invalid(
                "The token was given for a password that has been changed.".to_owned(),
            ));
        }
        let revocations = [&claims.audit, &claims.chain].map(|audit| format!("{REVOKED}{audit}"));
        Ok(Verified {
            claims,
            caller: Arc::new(caller),
            revocations,
        })
    }

    /// Makes a token, and every token that was got by it, worth nothing from now on.
    pub(crate) async fn revoke(&self, claims: &Claims) -> Result<(), Failure> {
        let key = format!("{REVOKED}{}", claims.audit);
        let now = self.now();
        self.decide(|state| {
            let mut txn = Txn::new();
            for lapsed in lapsed(state, now) {
                txn = txn.delete(lapsed);
            }
            Ok((txn.put(key.as_str(), keys::encode(&claims.expires)), ()))
        })
        .await
    }
}

/// Revocations of tokens that have lapsed by themselves.
fn lapsed(state: &State, now: Timestamp) -> Vec<&str> {
    state
        .others(REVOKED)
        .filter(|(_, entry)| keys::decode::<Timestamp>(&entry.value).is_ok_and(|expires| expires <= now))
        .map(|(key, _)| key)
        .take(SWEEP_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Scope;

    fn verified(audit: usize) -> Arc<Verified> {
        let audit = audit.to_string();
        Arc::new(Verified {
            claims: Claims {
                user: "u".into(),
                scope: Scope::Nothing,
                methods: Vec::new(),
                issued: Timestamp::from_unix_s(0),
                expires: Timestamp::from_unix_s(1),
                audit: audit.clone(),
                chain: audit.clone(),
                seal: String::new(),
            },
            caller: Arc::new(Caller {
                user_id: "u".into(),
                user_name: "u".into(),
                domain: "d".parse().unwrap(),
                project: None,
                roles: Vec::new(),
                policies: Vec::new(),
            }),
            revocations: [audit.clone(), audit],
        })
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_used() {
        let memory = Memory::default();
        let digest = |n: usize| -> [u8; 32] { Sha256::digest(n.to_string()).into() };
        for n in 0..5 * HALF_MAX {
            memory.put(digest(n), verified(n));
            assert_eq!(memory.get(&digest(0)).unwrap().claims.audit, "0");
            let halves = memory.0.read();
            assert!(halves.young.len() <= HALF_MAX && halves.old.len() <= HALF_MAX);
        }
        assert!(memory.get(&digest(1)).is_none());
        assert_eq!(
            memory.get(&digest(5 * HALF_MAX - 1)).unwrap().claims.audit,
            (5 * HALF_MAX - 1).to_string()
        );
    }
}
