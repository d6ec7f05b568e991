//! The wiring of Adit's roles into one executable, as a library so that tests start the same parts.
//!
//! Owns what a process is made of ([`region`]), where it keeps its files and its state ([`data`], [`certificate`], [`store`]) and what a person says and reads
//! ([`cli`], [`data_plane`], [`mod@config`], [`dev`], [`diagnose`], [`exec`], [`demo`], [`secret`], [`gateway_check`], [`gateway_run`], [`networks`], [`pattern`], [`toa_receiver`], [`top`], [`terminal`]). Decides nothing
//! about services, endpoints or bytes.

pub mod region;

pub mod admin;
pub mod certificate;
pub mod cli;
pub mod config;
pub mod control;
pub mod data;
pub mod data_plane;
pub mod demo;
pub mod dev;
pub mod diagnose;
pub mod door;
pub mod exec;
pub mod gateway_check;
pub mod gateway_run;
mod gateway_watch;
pub mod host;
pub mod lab;
pub mod networks;
pub mod pattern;
pub mod secret;
pub mod signals;
pub mod store;
pub mod terminal;
pub mod toa_receiver;
pub mod top;
pub mod who;

mod banner;
mod traffic;
