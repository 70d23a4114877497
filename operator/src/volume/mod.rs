//! A volume.
