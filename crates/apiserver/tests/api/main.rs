//! The API server as its clients see it: kube-rs and raw requests against the in-process router.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

mod admission;
mod apply;
mod crds;
mod crud;
mod deletion;
mod full_disk;
mod http2;
mod limits;
mod lists;
mod over_tls;
mod owners;
mod patches;
mod pods;
mod policy;
mod requests;
mod storage;
mod watches;
