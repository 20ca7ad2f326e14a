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
#include <unistd.h>

#include "agent/kern/dataplane.h"
#include "agent/kern/map_dirs.h"
#include "agent/kern/pins.h"
#include "agent/kern/program.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"
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
	struct program_tables tables;
	uint32_t jumps_id;
	const char *directory; /* of its maps */
	bool must_wait;
	bool has_others; /* sets of maps are left that nothing needs any more */
};

static int unlink_pin(const char *path)
{
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

void dataplane_free(struct dataplane *dataplane)
{
	if (!dataplane)
		return;
	/* What is attached goes on. A child may have the descriptor with which the kernel would end that. */
	if (dataplane->skeleton)
		(void)program_set_alive(dataplane->skeleton, false);
	program_unmap_tables(&dataplane->tables);
	direct_bpf__destroy(dataplane->skeleton);
	free(dataplane);
}

DEFINE_CLEANUP(struct dataplane *, dataplane_free)

/* libbpf opens what is pinned there, checks that it fits, or pins what it creates. */
static int set_pins(struct direct_bpf *skeleton, const char *directory)
{
	struct bpf_map *const maps[] = { skeleton->maps.remotes, skeleton->maps.sources,
		skeleton->maps.server_ports, skeleton->maps.exempt_clients, skeleton->maps.counters,
		skeleton->maps.kept };
	int r = 0;

	for (size_t i = 0; r == 0 && i < ELEMENTS_OF(maps); i++) {
		char path[PIN_PATH_MAX];

		(void)snprintf(path, sizeof(path), "%s/%s", directory, bpf_map__name(maps[i]));
		r = bpf_map__set_pin_path(maps[i], path);
	}
	return r;
}

static int share_maps(const struct direct_bpf *skeleton)
{
	const struct bpf_map *const maps[] = { skeleton->maps.remotes, skeleton->maps.sources,
		skeleton->maps.server_ports, skeleton->maps.exempt_clients, skeleton->maps.counters,
		skeleton->maps.kept };
	int r = 0;

	for (size_t i = 0; r == 0 && i < ELEMENTS_OF(maps); i++)
		r = pin_share(bpf_map__pin_path(maps[i]));
	return r;
}

static int map_id(int fd, uint32_t *ret)
{
	struct bpf_map_info info = { 0 };
	uint32_t size = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
		return -errno;
	*ret = info.id;
	return 0;
}

/* Each loaded program has its own: it shall never jump into parts of another. */
static int pin_jumps(struct dataplane *dataplane)
{
	int fd = bpf_map__fd(dataplane->skeleton->maps.jumps);
	char path[PIN_PATH_MAX];
	int r;

	r = map_id(fd, &dataplane->jumps_id);
	if (r < 0)
		return r;
	pin_path(PIN_JUMPS, dataplane->jumps_id, path);
	/* Ids are not given twice before 2^31 maps were made, but pins outlive their maps' time. */
	r = unlink_pin(path);
	if (r < 0)
		return r;
	return pin_object(fd, path);
}

static int load(struct dataplane *dataplane, uint32_t max_rows, uint64_t strip_flags)
{
	int r;

	dataplane->skeleton = direct_bpf__open();
	if (!dataplane->skeleton)
		return -errno;
	dataplane->skeleton->rodata->strip_flags = strip_flags;
	if ((r = program_set_size(dataplane->skeleton, max_rows)) < 0 ||
		(r = set_pins(dataplane->skeleton, dataplane->directory)) < 0 ||
		(r = direct_bpf__load(dataplane->skeleton)) < 0 ||
		(r = share_maps(dataplane->skeleton)) < 0 ||
		(r = program_join(dataplane->skeleton)) < 0 || (r = pin_jumps(dataplane)) < 0 ||
		(r = program_map_tables(dataplane->skeleton, &dataplane->tables)) < 0)
		return r;
	return program_set_alive(dataplane->skeleton, true);
}

/*
 * Where its maps shall be: with those that are pinned, if they are the only ones, complete and of the
 * wanted size. Else beside, so that the program that uses them goes on with them.
 */
static int choose_directory(uint32_t max_rows, const char **ret)
{
	_cleanup_(entry_maps_done) struct entry_maps pinned = ENTRY_MAPS_NONE;
	bool others, adopt;
	int r;

	r = map_dirs_have_others(&others);
	if (r < 0)
		return r;
	r = entry_maps_open(MAP_DIR, false, &pinned);
	if (r < 0 && r != -ENOENT && r != -EINVAL)
		return r;
	adopt = r == 0 ? pinned.max_rows == max_rows : access(MAP_DIR, F_OK) < 0;
	*ret = adopt && !others ? MAP_DIR : MAP_DIR_NEXT;
	return 0;
}

static int prepare(struct dataplane *dataplane, uint32_t max_rows)
{
	_cleanup_free_ uint32_t *attached = NULL;
	size_t n;
	int r;

	if ((r = pin_make_directory(MAPS_PIN_ROOT)) < 0 || (r = map_dirs_remove_next()) < 0 ||
		(r = choose_directory(max_rows, &dataplane->directory)) < 0 ||
		(r = dataplane_attached(&attached, &n)) < 0)
		return r;
	dataplane->must_wait = dataplane_is_beside(dataplane) && n > 0;
	return pin_make_directory(dataplane->directory);
}

int dataplane_load(uint32_t max_rows, uint64_t strip_flags, struct dataplane **ret)
{
	_cleanup_(dataplane_freep) struct dataplane *dataplane = calloc(1, sizeof(*dataplane));
	int r;

	if (!dataplane)
		return -ENOMEM;
	r = prepare(dataplane, max_rows);
	if (r == 0)
		r = load(dataplane, max_rows, strip_flags);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(dataplane);
	return 0;
}

const char *dataplane_directory(const struct dataplane *dataplane)
{
	return dataplane->directory;
}

bool dataplane_is_beside(const struct dataplane *dataplane)
{
	return strcmp(dataplane->directory, MAP_DIR) != 0;
}

bool dataplane_must_wait(const struct dataplane *dataplane)
{
	return dataplane->must_wait;
}

bool dataplane_is_pinned(const struct dataplane *dataplane)
{
	char path[PIN_PATH_MAX];

	pin_path(PIN_JUMPS, dataplane->jumps_id, path);
	return access(dataplane->directory, F_OK) == 0 && access(path, F_OK) == 0;
}

void dataplane_drop_alive(const struct dataplane *dataplane)
{
	program_drop_alive(dataplane->skeleton);
}

struct program_tables *dataplane_tables(struct dataplane *dataplane)
{
	return &dataplane->tables;
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
	_cleanup_close_ int fd = -1;
	struct tcx_link link;
	int r;

	r = pin_open(path, PIN_OBJECT_LINK, false, &fd);
	if (r < 0)
		return r;
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
	/* It is there: its link has no pin here any more, and goes a little later, or when the last copy of the pin does. */
	if (fd < 0)
		return errno == EEXIST ? -EAGAIN : -errno;
	return pin_object(fd, path);
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
	_cleanup_close_ int fd = -1;
	int r = pin_open(path, PIN_OBJECT_PROGRAM, false, &fd);

	return r < 0 ? r : program_id(fd, ret);
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

/* 0 when one of the pins is the program `there`, -EEXIST when it is somebody else's; or why nobody knows. */
static int is_ours(const struct program_pins *pins, uint32_t there)
{
	const char *const paths[] = { pins->path, pins->next };

	for (size_t i = 0; i < ELEMENTS_OF(paths); i++) {
		uint32_t id = 0;
		int r = pinned_program_id(paths[i], &id);

		if (r == 0 && id == there)
			return 0;
		if (r < 0 && r != -ENOENT)
			return r;
	}
	return -EEXIST;
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
	return pin_object(program, pins->next);
}

static int remove_filter(uint32_t ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = CLSACT_HANDLE, .priority = CLSACT_PRIORITY);

	return bpf_tc_detach(&hook, &options);
}

static int clsact_attach(uint32_t ifindex, int program, uint32_t known)
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
		r = there == known ? 0 : is_ours(&pins, there);
		if (r < 0)
			return r;
		options.flags = BPF_TC_F_REPLACE;
	}
	r = pin_next(&pins, there, program);
	/* All pins are gone. A link went with its own; a filter would outlive the only agent that knows it for ours. */
	if (r == -ENOENT && there != 0 && there == known) {
		r = remove_filter(ifindex);
		return r < 0 ? r : -ENOENT;
	}
	if (r < 0)
		return r;
	r = bpf_tc_attach(&hook, &options);
	if (r < 0)
		return r;
	return rename(pins.next, pins.path) < 0 ? -errno : 0;
}

int dataplane_attach(struct dataplane *dataplane, const struct host_interface *interface,
	uint32_t known, struct attachment *ret)
{
	struct attachment attachment = {
		.ifindex = interface->ifindex, .arphrd = interface->arphrd, .kind = ATTACHMENT_TCX
	};
	int fd = program_fd(dataplane, interface);
	int r;

	memcpy(attachment.ifname, interface->name, sizeof(attachment.ifname));
	r = program_id(fd, &attachment.program_id);
	if (r < 0)
		return r;
	r = tcx_attach(interface->ifindex, fd);
	if (r == -EINVAL) { /* kernels before 6.6 do not know the attach type */
		attachment.kind = ATTACHMENT_CLSACT;
		r = clsact_attach(interface->ifindex, fd, known);
	}
	if (r < 0)
		return r;
	*ret = attachment;
	return 0;
}

/* The id of the program in our link. -ENOENT: there is none, or its interface is gone. */
static int tcx_query(uint32_t ifindex, uint32_t *ret_program_id)
{
	_cleanup_close_ int fd = -1;
	char path[PIN_PATH_MAX];
	struct tcx_link link;
	int r;

	pin_path(PIN_LINK, ifindex, path);
	r = pin_open(path, PIN_OBJECT_LINK, false, &fd);
	if (r == 0)
		r = tcx_link_info(fd, &link);
	if (r < 0)
		return r;
	if (link.ifindex != ifindex)
		return -ENOENT;
	*ret_program_id = link.program_id;
	return 0;
}

static int tcx_check(const struct attachment *attachment)
{
	uint32_t there;
	int r = tcx_query(attachment->ifindex, &there);

	if (r < 0)
		return r;
	return there == attachment->program_id ? 0 : -ENOENT;
}

/* The filter, and the pin by which the next agent knows it. */
static int clsact_check(const struct attachment *attachment)
{
	struct program_pins pins = program_pins(attachment->ifindex);
	uint32_t there;
	int r = clsact_query(attachment->ifindex, &there);

	if (r < 0)
		return r;
	if (there != attachment->program_id)
		return -ENOENT;
	return access(pins.path, F_OK) < 0 ? -errno : 0;
}

int dataplane_check(const struct attachment *attachment)
{
	switch (attachment->kind) {
	case ATTACHMENT_NONE:
		return -ENOENT;
	case ATTACHMENT_TCX:
		return tcx_check(attachment);
	case ATTACHMENT_CLSACT:
		return clsact_check(attachment);
	}
	return -ENOENT;
}

int dataplane_check_any(enum attachment_kind kind, uint32_t ifindex)
{
	struct program_pins pins = program_pins(ifindex);
	uint32_t there;
	int r;

	if (kind == ATTACHMENT_TCX)
		return tcx_query(ifindex, &there);
	r = clsact_query(ifindex, &there);
	if (r == 0)
		r = there == 0 ? -ENOENT : is_ours(&pins, there);
	return r == -EEXIST ? -ENOENT : r;
}

/* The numbers of all pins but those of one kind, or of that kind only. */
static int list_pins(enum pin_kind kind, bool only, uint32_t **ret, size_t *ret_n)
{
	_cleanup_free_ uint32_t *list = NULL;
	_cleanup_(closedirp) DIR *dir = opendir(MAPS_PIN_ROOT);
	const struct dirent *entry;
	size_t n = 0;
	int r = 0;

	if (!dir && errno != ENOENT)
		return -errno;
	while (dir && (r = file_next_entry(dir, &entry)) > 0) {
		enum pin_kind found;
		uint32_t number, *slot;

		if (pin_parse(entry->d_name, &found, &number) < 0 || (found == kind) != only)
			continue;
		slot = ARRAY_APPEND(list, n);
		if (!slot)
			return -ENOMEM;
		*slot = number;
		n++;
	}
	if (r < 0)
		return r;
	*ret = TAKE_PTR(list);
	*ret_n = n;
	return 0;
}

int dataplane_attached(uint32_t **ret_ifindexes, size_t *ret_n)
{
	return list_pins(PIN_JUMPS, false, ret_ifindexes, ret_n);
}

/* With 0, which is no map's id, all of them. */
static int remove_jumps_but(uint32_t id)
{
	_cleanup_free_ uint32_t *ids = NULL;
	size_t n;
	int r;

	r = list_pins(PIN_JUMPS, true, &ids, &n);
	for (size_t i = 0; r == 0 && i < n; i++) {
		char path[PIN_PATH_MAX];

		if (ids[i] == id)
			continue;
		pin_path(PIN_JUMPS, ids[i], path);
		r = unlink_pin(path);
	}
	return r;
}

int dataplane_settle(struct dataplane *dataplane)
{
	int r;

	if (dataplane_is_beside(dataplane)) {
		r = map_dirs_promote();
		if (r < 0)
			return r;
		/* From here on that is this program's, whatever fails. */
		dataplane->directory = MAP_DIR;
		dataplane->must_wait = false;
		dataplane->has_others = true;
	}
	return 0;
}

int dataplane_tidy(struct dataplane *dataplane)
{
	int r = dataplane->has_others ? map_dirs_remove_others() : 0;

	if (r < 0)
		return r;
	dataplane->has_others = false;
	return remove_jumps_but(dataplane->jumps_id);
}

int dataplane_has_filter(uint32_t ifindex, uint32_t program_id)
{
	uint32_t there;
	int r = clsact_query(ifindex, &there);

	return r < 0 ? r : there != 0 && there == program_id;
}

static int clsact_detach(uint32_t ifindex, uint32_t known)
{
	struct program_pins pins = program_pins(ifindex);
	uint32_t there;
	int r;

	r = clsact_query(ifindex, &there);
	if (r < 0)
		return r;
	if (there != 0) {
		r = there == known ? 0 : is_ours(&pins, there);
		if (r == 0)
			r = remove_filter(ifindex);
		if (r < 0 && r != -EEXIST)
			return r;
	}
	r = unlink_pin(pins.next);
	return r < 0 ? r : unlink_pin(pins.path);
}

/*
 * Without its pin, its only reference, the kernel would take the link off as well; but a grace period later, and while
 * somebody else has a copy not at all.
 */
static int tcx_detach(uint32_t ifindex)
{
	_cleanup_close_ int fd = -1;
	char path[PIN_PATH_MAX];
	struct tcx_link link;
	int r;

	pin_path(PIN_LINK, ifindex, path);
	r = pin_open(path, PIN_OBJECT_LINK, false, &fd);
	if (r == 0)
		r = tcx_link_info(fd, &link);
	if (r == 0 && bpf_link_detach(fd) < 0)
		r = -errno;
	/* No such pin, or it is no link of ours. */
	if (r < 0 && r != -ENOENT && r != -EMEDIUMTYPE && r != -EINVAL)
		return r;
	return unlink_pin(path);
}

int dataplane_detach(uint32_t ifindex, uint32_t known)
{
	int r = tcx_detach(ifindex);

	return r < 0 ? r : clsact_detach(ifindex, known);
}

int dataplane_remove_pins(bool keep_directory)
{
	int r = remove_jumps_but(0);

	if (r == 0)
		r = map_dirs_remove();
	if (r < 0)
		return r;
	if (!keep_directory && rmdir(MAPS_PIN_ROOT) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}
