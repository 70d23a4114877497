//! The agent around its engine (`syncmesh-engine`): command line, control thread, and the cluster that it is a part of. A library, so that
//! its parts can be tested, and a thin binary.

pub mod cli;
pub mod control;
pub mod kubernetes;
pub mod logging;
