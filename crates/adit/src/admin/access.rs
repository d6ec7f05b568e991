//! Which region to speak to and as whom: decided from flags, a clouds.yaml, or the files of a running `adit dev`.
//!
//! Decides and reads; never speaks to anybody. The first of these that is given counts: a cloud, a token, a user; without
//! any of them the operator of the region that runs on the data directory.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Error, args::AccessArgs};
use crate::data;

/// The account where none is named, as the openstack command has it.
const DOMAIN_DEFAULT: &str = "Default";

/// Which region, and as whom.
#[derive(Debug, PartialEq)]
pub(super) struct Access {
    /// Where the API is; where it is not said, the token's catalog says it.
    pub(super) url: Option<String>,
    pub(super) auth: Auth,
    /// The region in the catalog, where there are several.
    pub(super) region: Option<String>,
    /// Certificates to trust.
    pub(super) cacert: Option<PathBuf>,
    /// Whether certificates are looked at at all.
    pub(super) verify: bool,
}

/// Somebody's credentials.
#[derive(PartialEq)]
pub(super) enum Auth {
    Token(String),
    Password {
        /// Keystone's URL, with its version.
        auth_url: String,
        user: String,
        /// The body of the request for a token.
        request: Value,
    },
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token([secret])"),
            Self::Password { auth_url, user, .. } => write!(f, "Password({user} at {auth_url}, [secret])"),
        }
    }
}

/// A `clouds.yaml`, as far as it matters here.
#[derive(Deserialize)]
struct Clouds {
    clouds: BTreeMap<String, Cloud>,
}

#[derive(Deserialize)]
struct Cloud {
    auth: CloudAuth,
    region_name: Option<String>,
    cacert: Option<PathBuf>,
    #[serde(default = "yes")]
    verify: bool,
}

fn yes() -> bool {
    true
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CloudAuth {
    auth_url: Option<String>,
    token: Option<String>,
    username: Option<String>,
    user_id: Option<String>,
    password: Option<String>,
    user_domain_name: Option<String>,
    user_domain_id: Option<String>,
    project_name: Option<String>,
    project_id: Option<String>,
    project_domain_name: Option<String>,
    project_domain_id: Option<String>,
    domain_name: Option<String>,
    domain_id: Option<String>,
}

impl Access {
    /// Decides by what was said, and reads the files that it leads to.
    pub(super) fn of(args: &AccessArgs) -> Result<Self, Error> {
        let own = Self::own(args)?;
        Ok(Self {
            cacert: args.cacert.clone().or(own.cacert),
            ..own
        })
    }

    fn own(args: &AccessArgs) -> Result<Self, Error> {
        if let Some(name) = &args.cloud {
            let file = match &args.clouds {
                Some(file) => file.clone(),
                None => standard_places()
                    .into_iter()
                    .find(|file| file.exists())
                    .ok_or(Error::NoClouds)?,
            };
            return Self::of_cloud(args, &file, name);
        }
        if let Some(token) = &args.token {
            let auth = Auth::Token(token.clone());
            return Self::at(args, auth);
        }
        if let Some(user) = &args.user {
            let password = args.password.as_ref().ok_or(Error::NoPassword)?;
            let domain = args.domain.as_deref().unwrap_or(DOMAIN_DEFAULT);
            let user_value = json!({"name": user, "password": password, "domain": {"name": domain}});
            let scope = match &args.project {
                Some(project) => json!({"project": {"name": project, "domain": {"name": domain}}}),
                None => json!({"domain": {"name": domain}}),
            };
            let request = request(user_value, Some(scope));
            let auth = |auth_url| Auth::Password {
                auth_url,
                user: user.clone(),
                request,
            };
            return match &args.auth_url {
                Some(auth_url) => Ok(Self {
                    url: args.url.clone(),
                    auth: auth(auth_url.trim_end_matches('/').to_owned()),
                    region: None,
                    cacert: None,
                    verify: true,
                }),
                None => {
                    let at = Self::at(args, Auth::Token(String::new()))?;
                    let auth_url = format!("{}/v3", at.url.as_deref().unwrap_or_default());
                    Ok(Self {
                        auth: auth(auth_url),
                        ..at
                    })
                }
            };
        }
        if args.url.is_some() {
            return Err(Error::Nobody);
        }
        let data = args.data.clone().unwrap_or_else(data::default_path);
        let run = data::running(&data)?;
        let operator = run.operator.ok_or_else(|| Error::NoOperator(data.clone()))?;
        let own = Self::of_cloud(args, &data.join("clouds.yaml"), &operator)?;
        Ok(Self {
            url: Some(run.api.ok_or_else(|| Error::NoApi(data))?),
            ..own
        })
    }

    /// Somebody at the URL that was given, or at the region that runs on the data directory.
    fn at(args: &AccessArgs, auth: Auth) -> Result<Self, Error> {
        let (url, cacert) = match &args.url {
            Some(url) => (url.trim_end_matches('/').to_owned(), None),
            None => {
                let data = args.data.clone().unwrap_or_else(data::default_path);
                let run = data::running(&data)?;
                (run.api.ok_or_else(|| Error::NoApi(data))?, run.cacert)
            }
        };
        Ok(Self {
            url: Some(url),
            auth,
            region: None,
            cacert,
            verify: true,
        })
    }

    fn of_cloud(args: &AccessArgs, file: &Path, name: &str) -> Result<Self, Error> {
        let read = |source| Error::Clouds {
            file: file.to_owned(),
            source,
        };
        let text = fs::read_to_string(file).map_err(read)?;
        let mut clouds: Clouds =
            serde_saphyr::from_str(&text).map_err(|e| read(io::Error::new(io::ErrorKind::InvalidData, e)))?;
        let known = || clouds.clouds.keys().cloned().collect::<Vec<_>>().join(", ");
        if !clouds.clouds.contains_key(name) {
            return Err(Error::NoCloud {
                file: file.to_owned(),
                name: name.to_owned(),
                known: known(),
            });
        }
        let cloud = clouds.clouds.remove(name);
        let incomplete = |what| Error::Incomplete {
            file: file.to_owned(),
            name: name.to_owned(),
            what,
        };
        let cloud = cloud.ok_or_else(|| incomplete("everything"))?;
        let auth = match cloud.auth.token.clone().or_else(|| args.token.clone()) {
            Some(token) => Auth::Token(token),
            None => cloud.auth.password(args).map_err(incomplete)?,
        };
        let url = args.url.clone().or_else(|| match &auth {
            Auth::Token(_) => cloud.auth.auth_url.as_deref().and_then(origin),
            Auth::Password { .. } => None,
        });
        Ok(Self {
            url,
            auth,
            region: cloud.region_name,
            cacert: cloud.cacert,
            verify: cloud.verify,
        })
    }
}

impl CloudAuth {
    /// What to log in with; else what is missing for that.
    fn password(&self, args: &AccessArgs) -> Result<Auth, &'static str> {
        let auth_url = self.auth_url.as_deref().ok_or("auth_url")?;
        let password = self
            .password
            .as_ref()
            .or(args.password.as_ref())
            .ok_or("password")?;
        let mut user = named(self.username.as_ref(), self.user_id.as_ref()).ok_or("username")?;
        user["password"] = json!(password);
        let domain = named(self.user_domain_name.as_ref(), self.user_domain_id.as_ref());
        let default = || json!({"name": DOMAIN_DEFAULT});
        if self.user_id.is_none() {
            user["domain"] = domain.clone().unwrap_or_else(default);
        }
        let project = named(self.project_name.as_ref(), self.project_id.as_ref()).map(|mut project| {
            if self.project_id.is_none() {
                let own = named(self.project_domain_name.as_ref(), self.project_domain_id.as_ref());
                project["domain"] = own.or_else(|| domain.clone()).unwrap_or_else(default);
            }
            json!({"project": project})
        });
        let account =
            || named(self.domain_name.as_ref(), self.domain_id.as_ref()).map(|d| json!({"domain": d}));
        let version = auth_url.trim_end_matches('/');
        let auth_url = match version.ends_with("/v3") {
            true => version.to_owned(),
            false => format!("{version}/v3"),
        };
        Ok(Auth::Password {
            auth_url,
            user: self
                .username
                .clone()
                .or_else(|| self.user_id.clone())
                .unwrap_or_default(),
            request: request(user, project.or_else(account)),
        })
    }
}

/// An id is stronger than a name.
fn named(name: Option<&String>, id: Option<&String>) -> Option<Value> {
    match (id, name) {
        (Some(id), _) => Some(json!({"id": id})),
        (None, Some(name)) => Some(json!({"name": name})),
        (None, None) => None,
    }
}

/// The body of a request for a token.
fn request(user: Value, scope: Option<Value>) -> Value {
    let mut auth = json!({"identity": {"methods": ["password"], "password": {"user": user}}});
    if let Some(scope) = scope {
        auth["scope"] = scope;
    }
    json!({"auth": auth})
}

/// The scheme and the host of a URL.
pub(super) fn origin(url: &str) -> Option<String> {
    let uri: ureq::http::Uri = url.parse().ok()?;
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
}

/// Where the openstack command looks for a clouds.yaml.
fn standard_places() -> Vec<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    let own = config.map(|config| config.join("openstack/clouds.yaml"));
    [PathBuf::from("clouds.yaml")]
        .into_iter()
        .chain(own)
        .chain([PathBuf::from("/etc/openstack/clouds.yaml")])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOUDS: &str = r"
clouds:
  ops:
    auth:
      auth_url: https://keystone.example.com:5000/
      username: root
      password: 'p w'
      user_domain_name: ops
      project_id: 80bf1f73f33460afa6bafe0ab6b45c2f
    region_name: eu-de
    cacert: /etc/ca.pem
    verify: false
    interface: public
  by-token:
    auth: {auth_url: 'http://127.0.0.1:7117/v3', token: t}
  bare:
    auth: {auth_url: 'http://127.0.0.1:7117/v3', username: root}
";

    fn args() -> (AccessArgs, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("clouds.yaml");
        fs::write(&file, CLOUDS).unwrap();
        let args = AccessArgs {
            clouds: Some(file),
            data: Some(dir.path().join("nothing")),
            ..AccessArgs::default()
        };
        (args, dir)
    }

    fn cloud(name: &str, change: impl FnOnce(&mut AccessArgs)) -> Result<Access, Error> {
        let (mut args, _dir) = args();
        args.cloud = Some(name.to_owned());
        change(&mut args);
        Access::of(&args)
    }

    #[test]
    fn an_entry_of_a_clouds_yaml_is_read_as_the_openstack_command_does() {
        let access = cloud("ops", |_| {}).unwrap();
        let user = json!({"name": "root", "password": "p w", "domain": {"name": "ops"}});
        let scope = json!({"project": {"id": "80bf1f73f33460afa6bafe0ab6b45c2f"}});
        let expected = Access {
            url: None,
            auth: Auth::Password {
                auth_url: "https://keystone.example.com:5000/v3".into(),
                user: "root".into(),
                request: request(user, Some(scope)),
            },
            region: Some("eu-de".into()),
            cacert: Some("/etc/ca.pem".into()),
            verify: false,
        };
        assert_eq!(access, expected);
        assert!(!format!("{access:?}").contains("p w"));
        let access = cloud("by-token", |_| {}).unwrap();
        assert_eq!(access.url.as_deref(), Some("http://127.0.0.1:7117"));
        assert_eq!(access.auth, Auth::Token("t".into()));
        // What is said is stronger than what is written.
        let access = cloud("ops", |args| {
            args.url = Some("https://adit.example.com".into());
            args.cacert = Some("/other.pem".into());
        });
        let access = access.unwrap();
        assert_eq!(access.url.as_deref(), Some("https://adit.example.com"));
        assert_eq!(access.cacert, Some("/other.pem".into()));
    }

    #[test]
    fn what_is_missing_is_said() {
        let said = |result: Result<Access, Error>| result.unwrap_err().to_string();
        assert!(said(cloud("nobody", |_| {})).contains("bare, by-token, ops"));
        assert!(said(cloud("bare", |_| {})).contains("password"));
        assert!(cloud("bare", |args| args.password = Some("p".into())).is_ok());
        let (base, _dir) = args();
        let without = |change: fn(&mut AccessArgs)| {
            let mut args = base.clone();
            change(&mut args);
            said(Access::of(&args))
        };
        assert!(without(|_| {}).contains("adit dev"));
        assert!(without(|a| a.url = Some("http://x".into())).contains("--token"));
        assert!(without(|a| a.user = Some("u".into())).contains("--password"));
    }

    #[test]
    fn a_user_s_scope_is_the_account_or_a_project_of_it() {
        let (mut args, _dir) = args();
        args.user = Some("root".into());
        args.password = Some("p".into());
        args.url = Some("http://adit.test/".into());
        let user = |domain: &str| json!({"name": "root", "password": "p", "domain": {"name": domain}});
        let of = |args: &AccessArgs| match Access::of(args).unwrap() {
            Access {
                auth: Auth::Password {
                    auth_url, request, ..
                },
                url,
                ..
            } => (url, auth_url, request),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            of(&args),
            (
                Some("http://adit.test".into()),
                "http://adit.test/v3".into(),
                request(user("Default"), Some(json!({"domain": {"name": "Default"}})))
            )
        );
        args.domain = Some("ops".into());
        args.project = Some("eu-de".into());
        args.auth_url = Some("http://keystone.test/v3/".into());
        let scope = json!({"project": {"name": "eu-de", "domain": {"name": "ops"}}});
        let (_, auth_url, body) = of(&args);
        assert_eq!(
            (auth_url.as_str(), body),
            ("http://keystone.test/v3", request(user("ops"), Some(scope)))
        );
    }
}
