/*
 * Compute a checksum twice, of two copies of the data, and print it only if both agree.
 *
 * Watch: the result is that of the guest checksum, for twice the work. A difference prints
 *        DETECTED and ends the guest with exit code 3. What is left to go wrong is between the
 *        comparison and the console.
 */
#define COPIES 2
#include "checksum.c"
