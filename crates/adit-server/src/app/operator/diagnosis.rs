//! Why an endpoint does, or does not, pass traffic.

use adit_model::{
    ApiError,
    body::Body,
    diagnosis::{Facts, Question, ServiceFacts, Step, diagnose, is_healthy, mapping},
    endpoint::InterfaceLeg,
    id::EndpointId,
};
use adit_store::State;

use super::endpoint::absent;
use crate::{app::App, error::Failure, replica::Word};

/// What was found of an endpoint.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// The endpoint.
    pub id: EndpointId,
    /// The client port that was asked about, if it is mapped.
    pub port: Option<u16>,
    /// The steps that passed, and the first that failed.
    pub steps: Vec<Step>,
}

impl App {
    /// Goes through all that has to hold for an endpoint to pass traffic, up to the first thing that does not. Where the
    /// documents say nothing against it, the endpoint's gateway is asked to look, and to call the backend.
    ///
    /// # Errors
    /// 0002 by the question, 2006.
    pub async fn operator_endpoint_diagnose(
        &self,
        id: EndpointId,
        body: &Body,
    ) -> Result<Diagnosis, Failure> {
        let question = Question::parse(body)?;
        self.barrier().await?;
        let nobody = Failure::Timeout("the process of the control plane that leads");
        let word = self.word(id).await.ok_or(nobody)?;
        let mut facts = self.facts(&self.cache.read(), id, word)?;
        let mapping = mapping(&facts, question);
        let mut steps = diagnose(&facts, question);
        if let Some(mapping) = mapping.filter(|_| is_healthy(&steps)) {
            let nobody = Failure::Timeout("the process of the control plane that leads");
            let examined = self.examine(id, mapping.client_port).await.ok_or(nobody)?;
            facts.examined = Some(examined.ok_or(Failure::Crowded)?);
            // What it waits for it may have said meanwhile.
            facts.waiting = self.word(id).await.and_then(|word| word.waiting);
            steps = diagnose(&facts, question);
        }
        Ok(Diagnosis {
            id,
            port: mapping.map(|mapping| mapping.client_port),
            steps,
        })
    }

    /// How an endpoint stands on its gateway; `None` where nobody leads.
    async fn word(&self, id: EndpointId) -> Option<Word> {
        self.words(vec![id]).await?.pop()
    }

    fn facts(&self, state: &State, id: EndpointId, word: Word) -> Result<Facts, ApiError> {
        let endpoint = state.endpoint(&id).ok_or_else(|| absent(id))?;
        let account = state
            .account(&endpoint.domain)
            .filter(|account| account.is_frozen());
        let restricted = endpoint.interface().filter(|leg| leg.enable_whitelist);
        let service = state.service(&endpoint.service);
        Ok(Facts {
            id,
            status: endpoint.status(),
            fault: endpoint.fault().map(|fault| fault.error_message.clone()),
            domain: endpoint.domain.clone(),
            frozen: account.map(|account| account.active_status()).unwrap_or_default(),
            disabled: endpoint.is_disabled(),
            allowed: restricted.map(InterfaceLeg::allowed),
            service: service.map(|service| ServiceFacts {
                id: service.id,
                status: service.status(),
                fault: service.fault().map(|fault| fault.error_message.clone()),
                ports: service.ports.clone(),
                tcp_proxy: service.tcp_proxy,
            }),
            told: word.told,
            away: word.away,
            waiting: word.waiting,
            examined: None,
        })
    }
}
