//! Each cause, injected into Knative's own client and server (or, where their client cannot
//! produce it, a dialler of ours), and asserted at a real Collector and in the agent's log.
