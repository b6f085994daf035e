//! The kernel half through its library, on this machine's kernel: what is told of real sockets.
