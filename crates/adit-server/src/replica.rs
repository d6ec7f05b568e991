//! What the processes of a control plane ask each other: the one that leads alone hears gateways, and any of them may be asked by
//! a client what gateways say.
//!
//! ```text
//! POST /replica/v1/ask    a question, as JSON; the answer, or 503 where another process leads
//! ```
//!
//! Owns the words and the path, which is beside those of gateways. Who leads says under its key in the store where it is, with
//! which certificate, and by which secret it knows the others: whoever reads the store may ask. Questions only: what is
//! ordered goes through the store. A leader that dies owes nobody an answer; whoever asks looks who leads then, and asks that
//! one ([`App::ask`]). Read next: `ask` (the client), [`crate::leader`].

mod ask;
mod metrics;

use std::{collections::HashMap, sync::Arc, time::Duration};

use adit_model::{
    diagnosis::Examination,
    feed::ProbedPort,
    id::{EndpointId, ServiceId},
};
use adit_store::{
    Revision,
    keys::{decode, encode},
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub(crate) use metrics::Cluster;

use crate::{
    app::App,
    edge::Tls,
    feed::{Serving, specify},
    leader::{LEADER, Lease},
    node::NodeSecret,
};

/// The path of questions.
pub(crate) const PATH: &str = "/replica/v1/ask";
/// How often what gateways said of backends is asked for.
const MIRROR_PERIOD: Duration = Duration::from_secs(1);
/// How long a question waits for somebody to lead.
const LEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// How soon it is looked again who leads, where nobody has answered.
pub(crate) const REST: Duration = Duration::from_millis(50);
/// How long the cache of the one that leads may need to know what the one that asks does.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// What the one that leads says of itself, under the key by which it leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leading {
    /// Its name.
    pub name: String,
    /// Where gateways come to, as others reach it.
    pub url: String,
    /// What it wants to be shown.
    pub secret: String,
    /// The SHA-256 of its certificate, in hexadecimal digits; absent where it has none.
    pub certificate: Option<String>,
    /// What tells its region from another; absent where it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// This process, as one that may lead.
pub struct Replica {
    /// Its name, and how long it may be silent while it leads.
    pub lease: Lease,
    /// Where gateways come to, as others reach it.
    pub url: String,
    /// What others have to show.
    pub secret: String,
    /// Its certificate there.
    pub tls: Option<Arc<Tls>>,
    /// What tells its region from another.
    pub region: String,
}

impl Replica {
    /// What it writes where it leads: its certificate may change meanwhile.
    #[must_use]
    pub fn leading(&self) -> Arc<[u8]> {
        encode(&Leading {
            name: self.lease.name.clone(),
            url: self.url.clone(),
            secret: self.secret.clone(),
            certificate: self.tls.as_ref().map(|tls| tls.fingerprint()),
            region: Some(self.region.clone()),
        })
    }
}

/// What is asked of the one that leads.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub(crate) enum Question {
    /// How endpoints stand on their gateways.
    Words {
        /// Which.
        endpoints: Vec<EndpointId>,
        /// What the one that asks knows.
        at: Revision,
    },
    /// Have a gateway look at an endpoint's port.
    Examine {
        /// The endpoint.
        endpoint: EndpointId,
        /// The client port.
        port: u16,
    },
    /// Wait for a moment until it is so.
    Effect {
        /// What.
        effect: Effect,
        /// Of which endpoints.
        endpoints: Vec<EndpointId>,
        /// What the one that asks knows.
        at: Revision,
    },
    /// How backends have answered.
    Backends {
        /// The number of what is known already.
        known: Option<u64>,
    },
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Effect {
    /// Nothing listens.
    Silent,
    /// Gateways do what the documents say.
    OnTheWire,
}

/// How an endpoint stands on its gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Word {
    /// Whether a gateway was told to serve it as it is.
    pub(crate) told: bool,
    /// Which gateway is not there that is to serve it, in words.
    #[serde(default)]
    pub(crate) away: Option<String>,
    /// What it waits for.
    pub(crate) waiting: Option<String>,
}

/// The answers, each to the question of its name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
enum Answer {
    Words {
        /// In the order of the question.
        words: Vec<Word>,
    },
    Examined {
        /// Nothing where too many ask at a time.
        examination: Option<Examination>,
    },
    Effect {
        /// Whether it is so.
        seen: bool,
    },
    Backends {
        /// The number of what follows.
        number: u64,
        /// All of them; nothing where that is known already.
        backends: Option<Vec<(ServiceId, Vec<ProbedPort>)>>,
    },
}

/// What gateways said of backends to the one that leads, a moment ago.
#[derive(Default)]
pub struct Mirror {
    number: Option<u64>,
    backends: HashMap<ServiceId, Vec<ProbedPort>>,
}

impl App {
    /// Whether what gateways say is known in this process: they speak to it, or there is no other to ask.
    fn is_here(&self) -> bool {
        self.feed.is_open() || self.leading().is_none()
    }

    fn leading(&self) -> Option<Leading> {
        let state = self.cache.read();
        // Another version's word is none.
        decode(&state.other(LEADER)?.value).ok()
    }

    /// Asks the one that leads, whoever that is by then; `None` where nobody has answered in time.
    async fn ask(&self, question: &Question) -> Option<Answer> {
        let asked = async {
            loop {
                if self.feed.is_open() {
                    return answer(self, question).await;
                }
                if let Some(leading) = self.leading() {
                    match ask::ask(&leading, question).await {
                        Ok(answer) => return Some(answer),
                        Err(e) => tracing::debug!(
                            leader.name = leading.name,
                            leader.url = leading.url,
                            error = adit_model::error_chain(&e),
                            "Who leads has not answered."
                        ),
                    }
                }
                tokio::time::sleep(REST).await;
            }
        };
        tokio::time::timeout(LEADER_TIMEOUT + question.patience(), asked)
            .await
            .ok()
            .flatten()
    }

    /// How endpoints stand on their gateways, in the same order; `None` where nobody leads.
    pub(crate) async fn words(&self, endpoints: Vec<EndpointId>) -> Option<Vec<Word>> {
        if endpoints.is_empty() {
            return Some(Vec::new());
        }
        if self.is_here() {
            return Some(self.words_here(&endpoints));
        }
        let (count, at) = (endpoints.len(), self.cache.read().revision());
        match self.ask(&Question::Words { endpoints, at }).await? {
            Answer::Words { words } if words.len() == count => Some(words),
            _ => None,
        }
    }

    fn words_here(&self, endpoints: &[EndpointId]) -> Vec<Word> {
        let state = self.cache.read();
        let word = |id: &EndpointId| Word {
            told: specify(&state, &self.config, *id).is_some_and(|spec| self.feed.is_told(&spec)),
            away: self.feed.away(*id),
            waiting: match self.feed.serving(*id) {
                Serving::NotYet(reason) => reason,
                Serving::Yes => None,
            },
        };
        endpoints.iter().map(word).collect()
    }

    /// Has an endpoint's gateway find out how one of its client ports stands: nothing inside where too many ask at a time,
    /// `None` where nobody leads.
    pub(crate) async fn examine(&self, endpoint: EndpointId, port: u16) -> Option<Option<Examination>> {
        if self.is_here() {
            return Some(self.feed.examine(endpoint, port).await);
        }
        match self.ask(&Question::Examine { endpoint, port }).await? {
            Answer::Examined { examination } => Some(examination),
            _ => None,
        }
    }

    /// Looks in another process whether something is so; `false` where it is not yet, or nobody has answered.
    pub(crate) async fn effect_elsewhere(&self, effect: Effect, endpoints: &[EndpointId]) -> bool {
        let Some(leading) = self.leading() else {
            return false;
        };
        let question = Question::Effect {
            effect,
            endpoints: endpoints.to_vec(),
            at: self.cache.read().revision(),
        };
        match ask::ask(&leading, &question).await {
            Ok(Answer::Effect { seen }) => seen,
            _ => false,
        }
    }

    /// Whether effects are seen in this process.
    pub(crate) fn sees_effects(&self) -> bool {
        self.is_here()
    }

    /// How a service's backend has answered when it was asked last; `None` where nobody has asked.
    pub(crate) fn backend(&self, service: ServiceId) -> Option<Vec<ProbedPort>> {
        match self.feed.is_open() {
            true => self.feed.backend(service),
            false => self.mirror.lock().backends.get(&service).cloned(),
        }
    }
}

impl Question {
    /// How long the answer may take by itself.
    fn patience(&self) -> Duration {
        match self {
            Question::Words { .. } | Question::Backends { .. } => Duration::ZERO,
            Question::Examine { .. } => crate::feed::EXAMINATION_TIMEOUT,
            Question::Effect { .. } => crate::app::EFFECT_TIMEOUT,
        }
    }
}

/// Keeps what gateways say of backends, while they say it to another process, until it is cancelled. Also says where that one
/// has another `region`.
pub async fn mirror(app: Arc<App>, region: String, cancel: CancellationToken) {
    let mut differs = None;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(MIRROR_PERIOD) => {}
        }
        if app.is_here() {
            continue;
        }
        if let Some(leading) = app.leading()
            && leading.region.is_some_and(|other| other != region)
            && differs.as_ref() != Some(&leading.name)
        {
            tracing::warn!(
                leader.name = leading.name,
                leader.url = leading.url,
                "The control plane that leads has another region file: accounts, quotas and tokens differ from one to the other."
            );
            differs = Some(leading.name);
        }
        let known = app.mirror.lock().number;
        if let Some(Answer::Backends {
            number,
            backends: Some(backends),
        }) = app.ask(&Question::Backends { known }).await
        {
            *app.mirror.lock() = Mirror {
                number: Some(number),
                backends: backends.into_iter().collect(),
            };
        }
    }
}

/// The answer of the one that leads; `None` where this one does not.
async fn answer(app: &App, question: &Question) -> Option<Answer> {
    if let Question::Words { at, .. } | Question::Effect { at, .. } = question {
        let _ = tokio::time::timeout(CATCH_UP_TIMEOUT, app.cache.wait_for(*at)).await;
    }
    if !app.feed.is_open() {
        return None;
    }
    let answer = match question {
        Question::Words { endpoints, .. } => Answer::Words {
            words: app.words_here(endpoints),
        },
        Question::Examine { endpoint, port } => Answer::Examined {
            examination: app.feed.examine(*endpoint, *port).await,
        },
        Question::Effect {
            effect, endpoints, ..
        } => Answer::Effect {
            seen: app.effect(*effect, endpoints.clone()).await,
        },
        Question::Backends { known } => {
            let (number, backends) = app.feed.backends(*known);
            Answer::Backends { number, backends }
        }
    };
    // Who was told nothing any more meanwhile has nothing to say.
    app.feed.is_open().then_some(answer)
}

/// The path for others of the same control plane.
pub(crate) fn router(app: Arc<App>, secret: NodeSecret) -> Router {
    Router::new()
        .route(PATH, post(asked))
        .with_state(Arc::new((app, secret)))
}

type Asked = (Arc<App>, NodeSecret);

async fn asked(State(state): State<Arc<Asked>>, headers: HeaderMap, bytes: Bytes) -> Response {
    let (app, secret) = &*state;
    let shown = headers.get(header::AUTHORIZATION);
    let shown = shown.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if !shown.is_some_and(|shown| secret.is(shown)) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Ok(question) = serde_json::from_slice::<Question>(&bytes) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    match answer(app, &question).await {
        Some(answer) => Json(answer).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// A place for a [`Mirror`].
pub(crate) type Mirrored = Mutex<Mirror>;
