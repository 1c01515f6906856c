//! The machine against hand-written messages, one table or story for each of its parts.

mod basics;
mod caps;
mod chaos;
mod closing;
mod known;
mod losing;
mod opened;
mod polite;
mod ranks;
mod restart;
mod table;
mod vectors;
mod world;
