//! dhowctl and a real registry.
