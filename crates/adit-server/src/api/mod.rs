//! HTTP in and out, one file for each noun: parse, call one operation, shape the reply. Nothing else.

pub(crate) mod access;
pub(crate) mod backend;
pub(crate) mod connection;
pub(crate) mod description;
pub(crate) mod endpoint;
pub(crate) mod operator;
pub(crate) mod policy;
pub(crate) mod public_service;
pub(crate) mod quota;
pub(crate) mod route_table;
pub(crate) mod schema;
pub(crate) mod service;
pub(crate) mod shape;
pub(crate) mod tag;
pub(crate) mod upgrade;
pub(crate) mod version;
pub(crate) mod whitelist;
pub(crate) mod whitelist_batch;
