/* SPDX-License-Identifier: MIT */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <netinet/in.h>
#include <string.h>

#include "agent/kern/strip.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

/* linux/bpf.h of 7.1. Clears SKB_GSO_IPXIP4, and skb->encapsulation, of packets of any size. */
#define DECAP_IPXIP4 (1U << 11)

/* Strips 20 bytes from the packet it is run on; returns what the helper does. */
static int load_trial(uint32_t flags)
{
	const struct bpf_insn program[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K,
			.dst_reg = BPF_REG_2,
			.imm = -(int)sizeof(struct iphdr) },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K,
			.dst_reg = BPF_REG_3,
			.imm = BPF_ADJ_ROOM_MAC },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_4, .imm = (int)flags },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_skb_adjust_room },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(
		BPF_PROG_TYPE_SCHED_CLS, "strip_trial", "GPL", program, ELEMENTS_OF(program), NULL);

	return fd < 0 ? -errno : fd;
}

/* 0 when the kernel takes the flags, or -errno. */
static int try_flags(uint32_t flags)
{
	/* Ethernet, IPv4 with protocol 4, IPv4, 20 bytes. */
	unsigned char frame[ETH_HLEN + 3 * sizeof(struct iphdr)] = { 0 };
	const struct iphdr outer = { .version = 4, .ihl = 5, .protocol = IPPROTO_IPIP };
	const struct iphdr inner = { .version = 4, .ihl = 5, .protocol = IPPROTO_UDP };
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = sizeof(frame),
		.repeat = 1);
	_cleanup_close_ int program = load_trial(flags);

	if (program < 0)
		return program;
	frame[12] = ETH_P_IP >> 8;
	memcpy(frame + ETH_HLEN, &outer, sizeof(outer));
	memcpy(frame + ETH_HLEN + sizeof(outer), &inner, sizeof(inner));
	if (bpf_prog_test_run_opts(program, &options) < 0)
		return -errno;
	return (int)options.retval;
}

uint64_t strip_flags(void)
{
	if (try_flags(BPF_F_ADJ_ROOM_FIXED_GSO | DECAP_IPXIP4) == 0)
		return BPF_F_ADJ_ROOM_FIXED_GSO | DECAP_IPXIP4;
	return BPF_F_ADJ_ROOM_FIXED_GSO;
}

bool strip_clears_mark(uint64_t flags)
{
	return (flags & DECAP_IPXIP4) != 0;
}
