//! Tests against real daemons: everything is in `tests/`.
