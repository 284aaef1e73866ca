/* A CUDA driver in host memory, for tests of programs that use the driver API by pycuda or ctypes.

   Device memory is host memory under other addresses. Work on a stream is done when somebody waits for it and not
   before. What a GPU would let pass by luck is an error here: work on one stream that touches what another stream's
   work touches without an order between them (vector clocks), use after free, freeing under pending work, pageable
   memory in asynchronous copies, what is left in a context when it ends, unsafe calls during capture. Each is
   reported, whatever the caller does with the error code; a test ends by reading the reports.

   Signatures are those of NVIDIA's cuda.h, which build.py compiles this file against; functions that are not here return
   CUDA_ERROR_NOT_SUPPORTED and are reported. No kernel runs: a launch is checked against its cubin and recorded. */
#define _GNU_SOURCE
#include <cuda.h>
#include <elf.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
enum { SLOTS = 64, STACK = 64, RANGES = 64 };

/* for each stream's slot, the last piece of work that comes before */
typedef struct { uint64_t seq[SLOTS]; } clocks;

typedef enum { CONTEXT, STREAM, EVENT, GRAPH, EXEC, MODULE, DEVICE, PINNED, FUNCTION } kind;
static const char *const kind_names[]
    = { "context", "stream", "event", "graph", "exec", "module", "device", "pinned", "function" };
/* Every handle starts with this. Dead ones stay in the list, so that no handle is used again. old: of a machine before,
   which a failed test left to pycuda's destructors; what they ask for is done, in silence, since an error in a
   destructor ends the process. */
typedef struct object { struct object *next; kind kind; int dead, old; CUcontext context; } object;
struct CUctx_st { object object; int references; };

/* memory; writer: slot of the last write, which is number `written` there */
typedef struct { object object; char *host; size_t size; int mapped, writer; uint64_t written, read[SLOTS]; } block;
typedef struct { uint64_t address; size_t size; int write, on_host; block *block; } range;

typedef enum { COPY, MARK, KERNEL } work;
typedef struct op {
    struct op *next;
    work work;
    range ranges[RANGES];                   /* COPY: destination, source; KERNEL: what it touches */
    int count;
    void (*function)(void *);
    void *data;
    CUevent event;
    uint64_t seq;
    clocks after;
} op;
typedef struct { op *first, **last; } list;

struct CUstream_st {
    object object;
    int slot, blocking, busy, invalid;
    list queue;
    clocks clock;
    CUgraph capture;
    pthread_t owner;
    CUstreamCaptureMode mode;
};
struct CUevent_st { object object; unsigned flags; int slot; uint64_t seq; clocks at; float time; };
struct CUgraph_st { object object; list ops; };
struct CUgraphExec_st { object object; CUgraph graph; };
struct CUmod_st { object object; char *image; };
struct CUfunc_st {
    object object;
    CUmodule module;
    char name[256];
    struct { int offset, size; } parameters[64];
    int count, bytes, threads[3], most_shared;
};
/* tests/cuda_driver/machine.py has the same */
typedef struct {
    char name[256];
    unsigned grid[3], block[3], shared;
    int bytes;
    uint64_t arguments[64];
    CUstream stream;
    int count;
} launch;

/* What a call needs; each includes those before. SAFE: no capture forbids it. */
typedef enum { NOTHING, DRIVER, CURRENT, SAFE } need;
enum { NOTHING_TO_DO = -1 };
/* takes the lock until the function returns */
#define LOCKED int held_ __attribute__((cleanup(leave), unused)) = pthread_mutex_lock(&lock)
#define ENTER(needs) \
    LOCKED; \
    do { int e_ = enter(__func__, needs); if (e_) return e_ == NOTHING_TO_DO ? CUDA_SUCCESS : e_; } while (0)
/* the handle is alive and of its kind */
#define CHECK(handle, kind) \
    do { if (!alive(handle, kind)) return report(CUDA_ERROR_INVALID_HANDLE, "no %s in use", kind_names[kind]); } while (0)
#define DESTROY(function, type, kind, needs) \
    EXPORT CUresult function(type handle) { ENTER(needs); CHECK(handle, kind); ((object *)handle)->dead = 1; return CUDA_SUCCESS; }

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static CUresult sticky;                     /* after an error on the GPU every call returns it */
static object *objects;
static long unified, capability, most_bytes;
static __thread CUcontext stack[STACK];
static __thread int depth;

static int capture_forbids(void);
#include "state.c"
#include "streams.c"
#include "memory.c"
#include "modules.c"

/* ---- what tests ask and set ---- */

/* every function of cuda.h that is not here calls this */
EXPORT int testcuda_missing(const char *name) {
    LOCKED;
    called = name;
    return report(CUDA_ERROR_NOT_SUPPORTED, "is not in this driver");
}
/* A new machine. unified: a Jetson. bytes: of device memory. capability: 87 for 8.7. */
EXPORT void testcuda_start(long is_unified, long bytes, long compute_capability) {
    LOCKED;
    for (object *o = objects; o; o = o->next) {
        if (!o->old) free_work(o);
        o->dead = o->old = 1;
    }
    for (call *c = calls; c; c = c->next) c->count = c->error = 0;
    unified = is_unified, most_bytes = bytes, capability = compute_capability;
    sticky = CUDA_SUCCESS, primary = NULL, initialised = depth = *reports = 0;
    for (int i = 0; i < SLOTS; i++) slots[i].done = slots[i].issued;
    slots[0].stream = make(STREAM, sizeof *slots[0].stream);
    slots[0].stream->blocking = 1;
}
/* What was wrong since the last time somebody asked, a line each. */
EXPORT void testcuda_reports(char *out, size_t size) {
    LOCKED;
    snprintf(out, size, "%s", reports);
    *reports = 0;
}
/* A function returns this error from now on; 0: no longer. */
EXPORT void testcuda_fail(const char *name, int error) { LOCKED; find_call(name)->error = error; }
EXPORT long testcuda_calls(const char *name) { LOCKED; return find_call(name)->count; }
/* How many there are: "streams", "devices" (blocks of memory) and so on by kind, or one of the three below. */
EXPORT long testcuda_live(const char *what) {
    LOCKED;
    long live = 0;
    for (object *o = objects; o; o = o->next) {
        if (o->dead || (o->kind == STREAM && !o->context)) continue;    /* the default stream */
        live += !strncmp(what, kind_names[o->kind], strlen(kind_names[o->kind]));
        if (o->kind == EVENT && !strcmp(what, "sleeping events")) live += !!(((CUevent)o)->flags & CU_EVENT_BLOCKING_SYNC);
        if (o->kind == STREAM && !strcmp(what, "non-blocking streams")) live += !((CUstream)o)->blocking;
        if (o->kind == CONTEXT && !strcmp(what, "retained")) live += ((CUcontext)o)->references;
    }
    return live;
}
/* this thread's stack of contexts, from the bottom; NULL behind its end */
EXPORT CUcontext testcuda_stack(int index) { return index < depth ? stack[index] : NULL; }
