/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What doctor checks, each a small function of the facts. Pure: doctor.c gathers the facts, and what
 * could not be had is a fact as well. A check that cannot look says so, never "ok".
 */

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <time.h>

#include "agent/core/offload.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/finding.h"
#include "tools/ctl/live.h"
#include "tools/ctl/net.h"

/* A number, or why it is not known. */
struct fact {
	int error; /* 0, or -errno */
	int64_t value;
};

struct fact_program {
	uint32_t id;
	char name[16]; /* "": unknown */
};

/* An interface on which the agent wants the program, and what is on it. */
struct fact_interface {
	const json_t *status; /* of the document */
	uint32_t ifindex;
	char name[IFNAMSIZ];
	char driver[32]; /* "": unknown */
	int attached;    /* 0; -ENOENT: not; else it cannot be told */
	struct fact forwarding, mtu;
	int offload_error;
	struct offload_feature offload;
	int programs_error; /* -EINVAL: the kernel has no TCX */
	struct fact_program programs[NET_PROGRAMS_MAX];
	size_t n_programs;
	int filters_error;
	struct net_filter *filters; /* owned */
	size_t n_filters;
};

/* A tunnel in the maps. */
struct fact_tunnel {
	const json_t *status;
	struct fact mtu;
};

struct facts {
	const struct agent_view *view;
	time_t now;
	uint32_t resync_s;       /* seconds between periodic passes */
	const char *kernel;      /* its release, "6.1.0-56-amd64" */
	struct fact clears_mark; /* whether the kernel clears the tunnel's mark (strip.h) */
	struct fact jit;
	int bpffs_error;
	int live_error; /* 0: live is there */
	const struct live *live;
	struct fact own_netns;             /* whether this is the agent's network namespace */
	struct fact_interface *interfaces; /* owned */
	size_t n_interfaces;
	struct fact_tunnel *tunnels; /* owned */
	size_t n_tunnels;
	int nat_error; /* -ENOENT: there is no nft */
	json_t *nat;   /* what nft says; owned */
};

void facts_done(struct facts *facts);

/* Runs all checks, in a fixed order. */
void checks_run(const struct facts *facts, struct findings *findings);
