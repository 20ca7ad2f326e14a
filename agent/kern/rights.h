/* SPDX-License-Identifier: MIT */
#pragma once
/* What this process may do: it gives up what it does not need, and says what it lacks. */

#include <stdbool.h>
#include <stddef.h>

#define RIGHTS_TEXT_MAX 256

/*
 * Gives up every capability but CAP_NET_ADMIN, CAP_NET_BROADCAST, CAP_BPF and CAP_PERFMON, for good: from
 * the permitted, effective and bounding set these four are left, from the inheritable and the ambient set
 * none, and no_new_privs is set. Without CAP_SETPCAP the bounding set cannot be changed, which then
 * bounds nothing any more. The user stays who he is. Lifts the limit of locked memory before, where it may:
 * kernels before 5.11 charge BPF maps to it. Looks at the result as the kernel shows it.
 *
 * 0 or -errno, and `buf` says why; -ENOTRECOVERABLE: something is left that should not be.
 */
int rights_drop(char *buf, size_t size);

/*
 * Whether those are there that nothing can be done without; `reads_only`: without being told of changes. 0, or
 * -EPERM, and `buf` names those that are missing. CAP_PERFMON is the verifier's to judge: kernels
 * differ in what they let pass without.
 */
int rights_check(bool reads_only, char *buf, size_t size);

/*
 * Why the kernel may have refused to load the program and its maps, in a sentence that says what to do.
 * Writes it to `buf`, "" where there is nothing to say. `error`: what loading gave, -errno. Looks at
 * this process and the BPF file system; changes nothing.
 */
void rights_explain(int error, char *buf, size_t size);
