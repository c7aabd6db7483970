// The command line as one C function of libschatten.so: the program and `python -m schatten` both call it.
#pragma once

extern "C" {

/// Runs `argv` and returns the exit code; throws nothing. `program`, ended by a null pointer, is the words that start this
/// command line again: a campaign starts its runs so. SIGINT, SIGTERM and SIGPIPE are its own until it returns.
int schatten_main(int argc, const char* const* argv, const char* const* program);

/// "schatten VERSION for torch VERSION": who loads the library reads it in the file, before torch is touched.
extern const char schatten_built[];
}
