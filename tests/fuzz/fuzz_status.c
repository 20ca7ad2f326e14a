/* SPDX-License-Identifier: MIT */
/*
 * The status file as ipipdirectctl reads it, written by anybody: whatever it holds, the tables of the
 * reading commands are lines of printable ASCII. The first byte chooses the command.
 */

#include <sys/mman.h>
#include <unistd.h>

#include "agent/util/cleanup.h"
#include "tests/fuzz/fuzz.h"
#include "tools/ctl/ctl.h"

/* Given as their file is not the agent's own, no command asks the kernel for anything. */
static const struct ctl_command *const commands[] = {
	&ctl_status_command,
	&ctl_netns_command,
	&ctl_tunnels_command,
};

static void check_text(const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++)
		CHECK(text[i] == '\n' || (text[i] >= 0x20 && text[i] < 0x7f));
}

/* Runs a command with the streams of the process turned into memory. */
static void run(const struct ctl_command *command, const struct ctl *ctl)
{
	_cleanup_free_ char *text = NULL;
	FILE *out = stdout, *err = stderr, *memory;
	size_t size = 0;
	int status;

	memory = open_memstream(&text, &size);
	CHECK(memory);
	stdout = stderr = memory;
	status = command->run(ctl);
	stdout = out;
	stderr = err;
	CHECK(fclose(memory) == 0);
	CHECK(status >= CTL_OK && status <= CTL_DEGRADED);
	check_text(text, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, size };
	uint8_t choice = take_byte(&input);
	char path[64];
	struct ctl ctl = { .status_file = path };
	_cleanup_close_ int fd = memfd_create("status", MFD_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(write(fd, input.data, input.size) == (ssize_t)input.size);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ctl.json = choice & 4;
	ctl.pretty = choice & 8;
	ctl.brief = choice & 16;
	run(commands[(choice & 3) % 3], &ctl);
	return 0;
}
