//! Frames and messages between agents: encode, decode, limits. Pure.

pub mod frame;
pub mod limits;
pub mod message;
