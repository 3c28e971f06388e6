/*
 * Stand-in for libb64, which perf_analyzer links for input files with encoded bytes. Nothing here reads such files, so the
 * functions only have to exist: a call ends the process.
 */
#include <stdlib.h>

void base64_init_encodestate(void *state) { abort(); }
int base64_encode_block(const char *plain, int length, char *code, void *state) { abort(); }
int base64_encode_blockend(char *code, void *state) { abort(); }
void base64_init_decodestate(void *state) { abort(); }
int base64_decode_block(const char *code, int length, char *plain, void *state) { abort(); }
