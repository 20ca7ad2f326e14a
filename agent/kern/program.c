/* SPDX-License-Identifier: MIT */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/kern/program.h"
#include "agent/util/array.h"
#include "direct.skel.h"

int program_set_size(struct direct_bpf *skeleton, uint32_t max_rows)
{
	/* A row in each of the two, and slot 0. */
	const uint32_t n_slots = 2 * max_rows + 1, bits = front_bits(max_rows);
	const struct {
		struct bpf_map *map;
		uint32_t max_entries;
	} sizes[] = {
		{ skeleton->maps.remotes, max_rows },
		{ skeleton->maps.sources, max_rows },
		{ skeleton->maps.server_ports, n_slots },
		{ skeleton->maps.counters, n_slots },
		{ skeleton->maps.kept, n_slots },
		{ skeleton->maps.front, UINT32_C(1) << bits },
	};

	for (size_t i = 0; i < ELEMENTS_OF(sizes); i++) {
		int r = bpf_map__set_max_entries(sizes[i].map, sizes[i].max_entries);

		if (r < 0)
			return r;
	}
	skeleton->bss->front_bits = bits;
	return 0;
}

static int set_jump(const struct bpf_map *map, uint32_t index, const struct bpf_program *program)
{
	int fd = bpf_program__fd(program);

	return bpf_map_update_elem(bpf_map__fd(map), &index, &fd, BPF_ANY) < 0 ? -errno : 0;
}

int program_join(struct direct_bpf *skeleton)
{
	const struct bpf_program *programs[] = {
		[MAPS_JUMP_FULL] = skeleton->progs.full,
		[MAPS_JUMP_FULL_L3] = skeleton->progs.full_l3,
		[MAPS_JUMP_FINISH] = skeleton->progs.finish,
		[MAPS_JUMP_FINISH_L3] = skeleton->progs.finish_l3,
	};

	for (uint32_t i = 0; i < ELEMENTS_OF(programs); i++) {
		int r = set_jump(skeleton->maps.jumps, i, programs[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

int program_set_alive(struct direct_bpf *skeleton, bool alive)
{
	const struct bpf_program *programs[] = {
		[MAPS_ALIVE_FAST] = skeleton->progs.fast,
		[MAPS_ALIVE_FAST_L3] = skeleton->progs.fast_l3,
	};
	int r;

	for (uint32_t i = 0; i < ELEMENTS_OF(programs); i++) {
		r = alive ? set_jump(skeleton->maps.alive, i, programs[i]) : 0;
		if (!alive && bpf_map_delete_elem(bpf_map__fd(skeleton->maps.alive), &i) < 0 &&
			errno != ENOENT)
			r = -errno;
		if (r < 0)
			return r;
	}
	return 0;
}

void program_drop_alive(const struct direct_bpf *skeleton)
{
	(void)close(bpf_map__fd(skeleton->maps.alive));
}

int program_map_tables(struct direct_bpf *skeleton, struct program_tables *ret)
{
	uint32_t bits;
	void *front;

	/* libbpf leaves it out where its probe for maps in memory fails: not for want of them, but of memory, say. */
	if (!skeleton->bss)
		return -EIO;
	bits = skeleton->bss->front_bits;
	front = mmap(NULL, sizeof(struct maps_front) << bits, PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(skeleton->maps.front), 0);
	if (front == MAP_FAILED)
		return -errno;
	*ret = (struct program_tables){
		.front = { .buckets = front, .bits = bits },
		.uplinks = skeleton->bss->uplinks,
	};
	return 0;
}

void program_unmap_tables(struct program_tables *tables)
{
	if (tables->front.buckets)
		(void)munmap(
			tables->front.buckets, sizeof(struct maps_front) << tables->front.bits);
	*tables = (struct program_tables){ 0 };
}
