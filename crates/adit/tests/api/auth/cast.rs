//! Who calls: users of the demo tenant that may do one thing only, or everything but one thing, with tokens and keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use adit_cloud::{
    Cloud, Region,
    region::{NamedPolicy, User},
};
use adit_store::{Cache, RedbStore, State, Store};
use axum::body::Body;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Who, operations, sign::Key};
use crate::app::{Client, TestApp};

/// The secret of everybody's key, and everybody's password.
const SECRET: &str = "secret-of-the-cast";

/// A region with users for every action.
pub(super) struct Cast {
    pub(super) app: TestApp,
    /// Who may do one thing and nothing else.
    pub(super) only: BTreeMap<&'static str, Member>,
    /// Who may do everything but one thing.
    pub(super) without: BTreeMap<&'static str, Member>,
    /// Who may do everything.
    pub(super) all: Member,
    /// Who has a role that allows nothing.
    pub(super) idle: Member,
    store: Arc<dyn Store>,
    region: Region,
}

/// A user.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) client: Client,
    pub(super) key: Key,
}

/// The actions that operations are.
fn actions() -> BTreeSet<&'static str> {
    let operations = operations();
    let actions = operations.iter().filter_map(|operation| match operation.who {
        Who::Holders(action) => Some(action),
        Who::Anybody | Who::Operators => None,
    });
    actions.collect()
}

fn policy(name: &str, effect: &str, action: &str) -> NamedPolicy {
    let document = json!({"Version": "1.1", "Statement": [{"Effect": effect, "Action": [action]}]});
    NamedPolicy {
        name: name.to_owned(),
        document: serde_json::from_value(document).unwrap(),
    }
}

/// Adds a user to a domain, with roles in its first project and a key.
fn user(region: &mut Region, domain: usize, name: &str, roles: &[&str]) {
    let domain = &mut region.domains[domain];
    let project = &domain.projects[0].name;
    let key = json!({"access": format!("KEY OF {name}"), "secret": SECRET, "project": project});
    let user: Value = json!({"name": name, "id": Uuid::new_v4().simple().to_string(), "password": SECRET,
        "roles": {project: roles}, "access_keys": [key]});
    domain.users.push(serde_json::from_value::<User>(user).unwrap());
}

impl Cast {
    pub(super) async fn start() -> Self {
        let actions = actions();
        let mut region = Region::embedded();
        let policies = &mut region.domains[0].policies;
        policies.push(policy("all", "Allow", "vpcep:*:*"));
        policies.push(policy("idle", "Allow", "obs:bucket:list"));
        for action in &actions {
            policies.push(policy(&format!("only {action}"), "Allow", action));
            policies.push(policy(&format!("not {action}"), "Deny", action));
        }
        user(&mut region, 0, "all", &["all"]);
        user(&mut region, 0, "idle", &["idle", "VPC Administrator"]);
        user(
            &mut region,
            1,
            "other's",
            &["VPCEndpoint Administrator", "te_admin"],
        );
        for action in &actions {
            let (only, not) = (format!("only {action}"), format!("not {action}"));
            user(&mut region, 0, &only, &[&only]);
            user(
                &mut region,
                0,
                &not,
                &["all", &not, "te_admin", "VPCEndpoint FullAccess"],
            );
        }
        let store: Arc<dyn Store> = Arc::new(RedbStore::ephemeral().unwrap());
        let builder = TestApp::builder()
            .region(region.clone())
            .store(Arc::clone(&store));
        let app = builder.start().await;
        let member = async |name: &str| Member {
            name: name.to_owned(),
            client: app.log_in(&region, name).await,
            key: Key::new(&format!("KEY OF {name}"), SECRET),
        };
        let (mut only, mut without) = (BTreeMap::new(), BTreeMap::new());
        for action in actions {
            only.insert(action, member(&format!("only {action}")).await);
            without.insert(action, member(&format!("not {action}")).await);
        }
        Self {
            only,
            without,
            all: member("all").await,
            idle: member("idle").await,
            app,
            store,
            region,
        }
    }

    /// A key of the other tenant's.
    pub(super) fn others_key(&self) -> Key {
        Key::new("KEY OF other's", SECRET)
    }

    /// A token of the demo user's that was good until a day ago.
    pub(super) async fn expired(&self) -> String {
        let cache = Cache::<State>::start(Arc::clone(&self.store), "");
        let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
        let clock = Arc::new(move || two_days_ago);
        let store = Arc::clone(&self.store);
        let cloud = Cloud::start_with_clock(store, cache, self.region.clone(), clock)
            .await
            .unwrap();
        let then = self.app.demo.at(adit_cloud::router(cloud));
        then.log_in_again(&self.region, "demo").await.token.unwrap()
    }

    /// A token of the demo user's that was revoked.
    pub(super) async fn revoked(&self) -> String {
        let demo = &self.app.demo;
        let token = demo.log_in_again(&self.region, "demo").await.token.unwrap();
        let end = demo
            .request("DELETE", "/v3/auth/tokens")
            .header("x-subject-token", &token);
        let reply = demo.send_raw(end.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.status, 204, "{}", reply.text);
        token
    }
}
