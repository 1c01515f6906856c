//! The machine against hand-written messages, one table or story for each of its parts.

mod basics;
mod world;
