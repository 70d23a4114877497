//! Linux: io_uring, inotify, openat2.
