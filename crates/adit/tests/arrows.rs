//! Who may import whom. The crates exist so that some imports are impossible; this test keeps it so.
//!
//! It reads manifests and sources as text: it builds nothing and needs nothing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in what its tests share"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

/// Every crate, and exactly what it imports of ours. ARCHITECTURE.md says why.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "adit",
        &[
            "adit-cloud",
            "adit-gateway",
            "adit-model",
            "adit-netns",
            "adit-relay",
            "adit-server",
            "adit-store",
        ],
    ),
    (
        "adit-cloud",
        &["adit-model", "adit-netns", "adit-server", "adit-store"],
    ),
    ("adit-gateway", &["adit-model", "adit-netns", "adit-relay"]),
    ("adit-model", &[]),
    ("adit-netns", &[]),
    ("adit-relay", &["adit-netns"]),
    ("adit-server", &["adit-model", "adit-store"]),
    ("adit-store", &["adit-model"]),
];

/// The modules that may hold unsafe code: system calls that have no safe wrapper.
const UNSAFE_MODULES: &[&str] = &[
    "adit-netns/src/arp.rs",
    "adit-netns/src/unshare.rs",
    "adit-relay/src/socket.rs",
    "adit-relay/src/toa/shared.rs",
];

/// Where every dependency that is not ours comes from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

const DEPENDENCY_TABLES: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read_toml(path: &Path) -> Table {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The manifests, by the name of the crate's folder.
fn manifests() -> BTreeMap<String, Table> {
    let folders = fs::read_dir(root().join("crates")).unwrap();
    let folders = folders.map(|entry| entry.unwrap()).filter(|e| e.path().is_dir());
    let manifest = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, read_toml(&entry.path().join("Cargo.toml")))
    };
    folders.map(manifest).collect()
}

fn table<'a>(manifest: &'a Table, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    manifest.get(name).and_then(Value::as_table).into_iter().flatten()
}

/// The Rust sources under a folder, by their path below `crates/`.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let below = path.strip_prefix(root().join("crates")).unwrap();
            found.push((
                below.to_str().unwrap().to_owned(),
                fs::read_to_string(&path).unwrap(),
            ));
        }
    }
    found
}

/// The crates of ours that a source names in code (`adit_model::…`), as crate names.
fn crates_named(source: &str) -> BTreeSet<String> {
    let code = source.lines().map(|line| line.split("//").next().unwrap_or(""));
    let words = code.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    words
        .map(|word| word.replace('_', "-"))
        .filter(|word| ARROWS.iter().any(|(name, _)| name == word && word.contains('-')))
        .collect()
}

#[test]
fn the_manifests_hold_exactly_the_allowed_arrows() {
    let manifests = manifests();
    let found: BTreeMap<&str, BTreeSet<&str>> = manifests
        .iter()
        .map(|(name, manifest)| {
            let ours = table(manifest, "dependencies").map(|(name, _)| name.as_str());
            (
                name.as_str(),
                ours.filter(|n| manifests.contains_key(*n)).collect(),
            )
        })
        .collect();
    let allowed: BTreeMap<&str, BTreeSet<&str>> = ARROWS
        .iter()
        .map(|(name, arrows)| (*name, arrows.iter().copied().collect()))
        .collect();
    assert_eq!(found, allowed);
}

#[test]
fn the_sources_import_along_the_arrows_only() {
    for (name, arrows) in ARROWS {
        let sources = sources(&root().join("crates").join(name).join("src"));
        assert!(!sources.is_empty(), "{name} has no sources");
        for (file, source) in sources {
            for named in crates_named(&source) {
                // `adit`'s `main.rs` names its own library, as every binary does.
                let allowed = named == **name || arrows.contains(&named.as_str());
                assert!(allowed, "{file} names {named}, which {name} may not import");
            }
        }
    }
}

#[test]
fn the_model_does_no_input_or_output() {
    let manifests = manifests();
    for (name, _) in table(&manifests["adit-model"], "dependencies") {
        let refused = ["tokio", "axum", "hyper", "redb", "rustix", "libc", "tracing"];
        assert!(!refused.contains(&name.as_str()), "adit-model imports {name}");
    }
}

#[test]
fn every_dependency_is_declared_once_in_the_root() {
    for (name, manifest) in manifests() {
        let package = &manifest["package"];
        assert_eq!(package["name"].as_str(), Some(name.as_str()), "folder and crate");
        assert_eq!(
            manifest["lints"]["workspace"].as_bool(),
            Some(true),
            "lints of {name}"
        );
        for tables in DEPENDENCY_TABLES {
            for (dependency, how) in table(&manifest, tables) {
                let shared = how.get("workspace").and_then(Value::as_bool);
                assert_eq!(
                    shared,
                    Some(true),
                    "{name}: {dependency} must say workspace = true"
                );
            }
        }
    }
}

#[test]
fn unsafe_code_lives_in_the_named_modules() {
    let root_manifest = read_toml(&root().join("Cargo.toml"));
    let lint = &root_manifest["workspace"]["lints"]["rust"]["unsafe_code"];
    assert_eq!(lint.as_str(), Some("deny"));
    let found: BTreeSet<String> = sources(&root().join("crates"))
        .into_iter()
        .filter(|(file, source)| file != "adit/tests/arrows.rs" && source.contains("unsafe_code"))
        .map(|(file, _)| file)
        .collect();
    assert_eq!(
        found,
        UNSAFE_MODULES.iter().map(|file| (*file).to_owned()).collect()
    );
}

#[test]
fn every_dependency_comes_from_the_public_registry() {
    let lock = read_toml(&root().join("Cargo.lock"));
    let packages = lock["package"].as_array().unwrap();
    for package in packages {
        if let Some(source) = package.get("source") {
            assert_eq!(source.as_str(), Some(REGISTRY), "{}", package["name"]);
        }
    }
}

#[test]
fn there_is_one_implementation_of_tls_and_of_its_ciphers() {
    let lock = read_toml(&root().join("Cargo.lock"));
    let packages = lock["package"].as_array().unwrap();
    let named = |name: &str| {
        packages
            .iter()
            .filter(|p| p["name"].as_str() == Some(name))
            .count()
    };
    assert_eq!((named("rustls"), named("ring")), (1, 1));
    for other in [
        "aws-lc-rs",
        "aws-lc-sys",
        "openssl",
        "openssl-sys",
        "native-tls",
        "boring",
    ] {
        assert_eq!(named(other), 0, "{other}");
    }
}
