/* SPDX-License-Identifier: MIT */
/* attach_tcx OBJECT INTERFACE [before]: hangs OBJECT's program on the TCX egress until its stdin ends. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <net/if.h>
#include <stdio.h>

#define TCX_EGRESS 47 /* linux/bpf.h of 6.6 */
#define ATTACH_BEFORE (1U << 3)

int main(int argc, char **argv)
{
	LIBBPF_OPTS(bpf_link_create_opts, options, .flags = argc == 4 ? ATTACH_BEFORE : 0);
	struct bpf_object *object;
	struct bpf_program *program;
	int link;

	if (argc != 3 && argc != 4)
		return 2;
	object = bpf_object__open(argv[1]);
	if (!object || bpf_object__load(object) < 0)
		return 1;
	program = bpf_object__next_program(object, NULL);
	link = bpf_link_create(
		bpf_program__fd(program), (int)if_nametoindex(argv[2]), TCX_EGRESS, &options);
	if (link < 0) {
		perror("attach_tcx");
		return 1;
	}
	(void)puts("attached");
	(void)fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
