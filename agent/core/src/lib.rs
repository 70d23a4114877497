//! The rules of synchronisation, without any effect: no input or output, no clock, no threads, no randomness but what is
//! passed in.
//!
//! Read in this order: [`path`] (what can be named), [`version`] (who wrote what, who knows what), [`entry`] (what is
//! declared of a path and kept about it), [`decide`] (what happens when two versions meet), [`follow`] (what becomes of an edit
//! when its file was renamed), [`guard`] (which deletions wait),
//! [`retention`] (which stored versions go), [`summary`] (do two replicas know the same).

pub mod backoff;
pub mod clock;
pub mod decide;
pub mod entry;
pub mod follow;
pub mod guard;
pub mod limits;
pub mod path;
pub mod policy;
pub mod retention;
pub mod select;
pub mod summary;
pub mod version;
