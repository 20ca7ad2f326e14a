/* SPDX-License-Identifier: MIT */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/kern/dataplane.h"
#include "agent/kern/pins.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "direct.skel.h"

/* linux/bpf.h of 6.6 and newer; libbpf 1.1 passes them on unseen. */
#define LINK_TYPE_TCX 11
#define ATTACH_TCX_EGRESS 47
#define ATTACH_BEFORE (1U << 3)

/*
 * Our place among clsact filters: early, so that others see the packet that really leaves, and with a
 * handle nobody picks by chance.
 */
#define CLSACT_PRIORITY 7
#define CLSACT_HANDLE 0x69706970 /* "ipip" */

struct dataplane {
	struct direct_bpf *skeleton;
};

void dataplane_free(struct dataplane *dataplane)
{
	if (!dataplane)
		return;
	direct_bpf__destroy(dataplane->skeleton);
	free(dataplane);
}

DEFINE_CLEANUP(struct dataplane *, dataplane_free)

static int set_map(struct bpf_map *map, const char *path, uint32_t max_entries)
{
	int r;

	r = bpf_map__set_max_entries(map, max_entries);
	if (r < 0)
		return r;
	/* libbpf opens what is pinned there, checks that it fits, or pins what it creates. */
	return bpf_map__set_pin_path(map, path);
}

static int set_maps(struct direct_bpf *skeleton, uint32_t max_rows)
{
	/* A row in each map, and slot 0. */
	uint32_t n_slots = 2 * max_rows + 1;
	int r;

	r = set_map(skeleton->maps.remotes, PINS_MAPS_DIR "/remotes", max_rows);
	if (r < 0)
		return r;
	r = set_map(skeleton->maps.sources, PINS_MAPS_DIR "/sources", max_rows);
	if (r < 0)
		return r;
	r = set_map(skeleton->maps.server_ports, PINS_MAPS_DIR "/server_ports", n_slots);
	if (r < 0)
		return r;
	r = set_map(skeleton->maps.exempt_clients, PINS_MAPS_DIR "/exempt_clients",
		MAPS_EXEMPT_CLIENTS_MAX);
	if (r < 0)
		return r;
	r = set_map(skeleton->maps.counters, PINS_MAPS_DIR "/counters", n_slots);
	if (r < 0)
		return r;
	return set_map(skeleton->maps.kept, PINS_MAPS_DIR "/kept", n_slots);
}

int dataplane_load(uint32_t max_rows, struct dataplane **ret)
{
	_cleanup_(dataplane_freep) struct dataplane *dataplane = calloc(1, sizeof(*dataplane));
	_cleanup_(entry_maps_done) struct entry_maps pinned = ENTRY_MAPS_NONE;
	int r;

	if (!dataplane)
		return -ENOMEM;
	r = pin_make_directory(MAPS_PIN_ROOT);
	if (r < 0)
		return r;
	r = pin_make_directory(PINS_MAPS_DIR);
	if (r < 0)
		return r;
	r = entry_maps_open(false, &pinned);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0)
		max_rows = pinned.max_rows;
	dataplane->skeleton = direct_bpf__open();
	if (!dataplane->skeleton)
		return -errno;
	r = set_maps(dataplane->skeleton, max_rows);
	if (r < 0)
		return r;
	r = direct_bpf__load(dataplane->skeleton);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(dataplane);
	return 0;
}

static int program_fd(const struct dataplane *dataplane, const struct host_interface *interface)
{
	const struct bpf_program *program = interface->arphrd == ARPHRD_ETHER
						    ? dataplane->skeleton->progs.direct
						    : dataplane->skeleton->progs.direct_l3;

	return bpf_program__fd(program);
}

static int program_id(int fd, uint32_t *ret)
{
	struct bpf_prog_info info = { 0 };
	uint32_t size = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
		return -errno;
	*ret = info.id;
	return 0;
}

/* bpf_link_info of a TCX link; struct and its place in the union as in linux/bpf.h of 6.6. */
struct tcx_link {
	uint32_t program_id;
	uint32_t ifindex; /* 0: the interface is gone */
	uint32_t attach_type;
};

static int tcx_link_info(int fd, struct tcx_link *ret)
{
	struct bpf_link_info info = { 0 };
	uint32_t size = sizeof(info);
	uint32_t fields[2];

	if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
		return -errno;
	if (info.type != LINK_TYPE_TCX)
		return -EINVAL;
	memcpy(fields, &info.xdp, sizeof(fields)); /* any member shows where the union begins */
	*ret = (struct tcx_link){ info.prog_id, fields[0], fields[1] };
	return 0;
}

/* Updates the pinned link of an earlier agent in place. -ENOENT: there is none that is alive. */
static int tcx_adopt(const char *path, uint32_t ifindex, int program)
{
	_cleanup_close_ int fd = bpf_obj_get(path);
	struct tcx_link link;
	int r;

	if (fd < 0)
		return -errno;
	r = tcx_link_info(fd, &link);
	if (r < 0)
		return r;
	if (link.ifindex != ifindex || link.attach_type != ATTACH_TCX_EGRESS) {
		/* Indices are not reused while a system is up, but a link outlives its interface. */
		return unlink(path) < 0 ? -errno : -ENOENT;
	}
	return bpf_link_update(fd, program, NULL) < 0 ? -errno : 0;
}

static int tcx_attach(uint32_t ifindex, int program)
{
	LIBBPF_OPTS(bpf_link_create_opts, options, .flags = ATTACH_BEFORE);
	_cleanup_close_ int fd = -1;
	char path[PIN_PATH_MAX];
	int r;

	pin_path(PIN_LINK, ifindex, path);
	r = tcx_adopt(path, ifindex, program);
	if (r != -ENOENT)
		return r;
	fd = bpf_link_create(program, (int)ifindex, ATTACH_TCX_EGRESS, &options);
	if (fd < 0)
		return -errno;
	return bpf_obj_pin(fd, path) < 0 ? -errno : 0;
}

/* The id of the program in our filter: 0 where there is no such filter. */
static int clsact_query(uint32_t ifindex, uint32_t *ret_program_id)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = CLSACT_HANDLE, .priority = CLSACT_PRIORITY);
	int r = bpf_tc_query(&hook, &options);

	/* -EINVAL: no clsact at all. */
	if (r == -ENOENT || r == -EINVAL || r == -ENODEV) {
		*ret_program_id = 0;
		return 0;
	}
	if (r < 0)
		return r;
	*ret_program_id = options.prog_id;
	return 0;
}

static int pinned_program_id(const char *path, uint32_t *ret)
{
	_cleanup_close_ int fd = bpf_obj_get(path);

	return fd < 0 ? -errno : program_id(fd, ret);
}

/*
 * A filter has no pin, so its program is pinned to know it again. The next program is pinned beside
 * first and renamed once the filter has it: whenever the agent is killed, one of the two pins is true.
 */
struct program_pins {
	char path[PIN_PATH_MAX];
	char next[PIN_PATH_MAX + 4];
};

static struct program_pins program_pins(uint32_t ifindex)
{
	struct program_pins pins;

	pin_path(PIN_PROGRAM, ifindex, pins.path);
	(void)snprintf(pins.next, sizeof(pins.next), "%s_new", pins.path);
	return pins;
}

/* 0 when one of the pins is the program `there`, -EEXIST when it is somebody else's. */
static int is_ours(const struct program_pins *pins, uint32_t there)
{
	uint32_t id = 0;

	if (pinned_program_id(pins->path, &id) == 0 && id == there)
		return 0;
	if (pinned_program_id(pins->next, &id) == 0 && id == there)
		return 0;
	return -EEXIST;
}

static int unlink_pin(const char *path)
{
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

static int pin_next(const struct program_pins *pins, uint32_t there, int program)
{
	uint32_t id = 0;
	int r = 0;

	/* An agent was killed before it could rename: the pin beside is the true one. */
	if (there != 0 && pinned_program_id(pins->next, &id) == 0 && id == there)
		r = rename(pins->next, pins->path) < 0 ? -errno : 0;
	else
		r = unlink_pin(pins->next);
	if (r < 0)
		return r;
	return bpf_obj_pin(program, pins->next) < 0 ? -errno : 0;
}

static int clsact_attach(uint32_t ifindex, int program)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = CLSACT_HANDLE, .priority = CLSACT_PRIORITY,
		.prog_fd = program);
	struct program_pins pins = program_pins(ifindex);
	uint32_t there;
	int r;

	r = bpf_tc_hook_create(&hook);
	if (r < 0 && r != -EEXIST)
		return r;
	r = clsact_query(ifindex, &there);
	if (r < 0)
		return r;
	if (there != 0) {
		r = is_ours(&pins, there);
		if (r < 0)
			return r;
		options.flags = BPF_TC_F_REPLACE;
	}
	r = pin_next(&pins, there, program);
	if (r < 0)
		return r;
	r = bpf_tc_attach(&hook, &options);
	if (r < 0)
		return r;
	return rename(pins.next, pins.path) < 0 ? -errno : 0;
}

int dataplane_attach(
	struct dataplane *dataplane, const struct host_interface *interface, struct attachment *ret)
{
	struct attachment attachment = { .ifindex = interface->ifindex, .kind = ATTACHMENT_TCX };
	int fd = program_fd(dataplane, interface);
	int r;

	memcpy(attachment.ifname, interface->name, sizeof(attachment.ifname));
	r = program_id(fd, &attachment.program_id);
	if (r < 0)
		return r;
	r = tcx_attach(interface->ifindex, fd);
	if (r == -EINVAL) { /* kernels before 6.6 do not know the attach type */
		attachment.kind = ATTACHMENT_CLSACT;
		r = clsact_attach(interface->ifindex, fd);
	}
	if (r < 0)
		return r;
	*ret = attachment;
	return 0;
}

static int tcx_check(const struct attachment *attachment)
{
	_cleanup_close_ int fd = -1;
	char path[PIN_PATH_MAX];
	struct tcx_link link;

	pin_path(PIN_LINK, attachment->ifindex, path);
	fd = bpf_obj_get(path);
	if (fd < 0 || tcx_link_info(fd, &link) < 0 || link.ifindex != attachment->ifindex ||
		link.program_id != attachment->program_id)
		return -ENOENT;
	return 0;
}

int dataplane_check(const struct attachment *attachment)
{
	uint32_t there;

	switch (attachment->kind) {
	case ATTACHMENT_NONE:
		return -ENOENT;
	case ATTACHMENT_TCX:
		return tcx_check(attachment);
	case ATTACHMENT_CLSACT:
		if (clsact_query(attachment->ifindex, &there) < 0 ||
			there != attachment->program_id)
			return -ENOENT;
		return 0;
	}
	return -ENOENT;
}

int dataplane_attached(uint32_t **ret_ifindexes, size_t *ret_n)
{
	_cleanup_free_ uint32_t *list = NULL;
	_cleanup_(closedirp) DIR *dir = opendir(MAPS_PIN_ROOT);
	struct dirent *entry;
	size_t n = 0;

	if (!dir && errno != ENOENT)
		return -errno;
	while (dir && (entry = readdir(dir))) {
		enum pin_kind kind;
		uint32_t ifindex, *slot;

		if (pin_parse(entry->d_name, &kind, &ifindex) < 0)
			continue;
		slot = ARRAY_APPEND(list, n);
		if (!slot)
			return -ENOMEM;
		*slot = ifindex;
		n++;
	}
	*ret_ifindexes = TAKE_PTR(list);
	*ret_n = n;
	return 0;
}

static int clsact_detach(uint32_t ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = CLSACT_HANDLE, .priority = CLSACT_PRIORITY);
	struct program_pins pins = program_pins(ifindex);
	uint32_t there;
	int r;

	r = clsact_query(ifindex, &there);
	if (r < 0)
		return r;
	if (there != 0 && is_ours(&pins, there) == 0) {
		r = bpf_tc_detach(&hook, &options);
		if (r < 0)
			return r;
	}
	r = unlink_pin(pins.next);
	return r < 0 ? r : unlink_pin(pins.path);
}

int dataplane_detach(uint32_t ifindex)
{
	char path[PIN_PATH_MAX];
	int r;

	/* The pin is the link's only reference: without it the kernel detaches. */
	pin_path(PIN_LINK, ifindex, path);
	r = unlink_pin(path);
	return r < 0 ? r : clsact_detach(ifindex);
}

int dataplane_remove_pins(void)
{
	static const char *const maps[] = { "remotes", "sources", "server_ports", "exempt_clients",
		"counters", "kept" };

	for (size_t i = 0; i < ELEMENTS_OF(maps); i++) {
		char path[PIN_PATH_MAX];
		int r;

		(void)snprintf(path, sizeof(path), "%s/%s", PINS_MAPS_DIR, maps[i]);
		r = unlink_pin(path);
		if (r < 0)
			return r;
	}
	/* An agent may have been killed when it had made only one of the two. */
	if (rmdir(PINS_MAPS_DIR) < 0 && errno != ENOENT)
		return -errno;
	if (rmdir(MAPS_PIN_ROOT) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}
