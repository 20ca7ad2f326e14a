/* SPDX-License-Identifier: MIT */
#pragma once
/* What this kernel can do when an outer header is stripped. */

#include <stdbool.h>
#include <stdint.h>

/*
 * The flags with which the program shall call bpf_skb_adjust_room(): BPF_F_ADJ_ROOM_FIXED_GSO, and what
 * clears a super-packet's tunnel mark where the kernel has it (7.1). Found by trying, since such
 * things are carried to older versions too; what cannot be tried is not there.
 */
uint64_t strip_flags(void);

bool strip_clears_mark(uint64_t flags);
