//! The lives of activators, agents and Collectors: who comes first, who ends, who is away.
