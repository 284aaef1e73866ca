/* A CUDA driver in host memory, for tests of programs that use the driver API by pycuda or ctypes.

   Device memory is host memory under other addresses. Work on a stream is done when somebody waits for it and not
   before. What a GPU would let pass by luck is an error here: work on one stream that touches what another stream's
   work touches without an order between them (vector clocks), use after free, freeing under pending work, pageable
   memory in asynchronous copies, what is left in a context when it ends, unsafe calls during capture. Each is
   reported, whatever the caller does with the error code; a test ends by reading the reports.

   Signatures are those of NVIDIA's cuda.h, which build.py compiles against; functions that are not here return
   CUDA_ERROR_NOT_SUPPORTED and are reported. No kernel runs: a launch is checked against its cubin and recorded. */
#ifndef TEST_DRIVER_H
#define TEST_DRIVER_H
#define _GNU_SOURCE
#include <cuda.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
enum { SLOTS = 64, STACK = 64, RANGES = 64 };

/* for each stream's slot, the last piece of work that comes before */
typedef struct { uint64_t seq[SLOTS]; } clocks;

typedef enum { ANY_KIND, CONTEXT, STREAM, EVENT, GRAPH, EXEC, MODULE, FUNCTION, KINDS } kind;
/* Every handle starts with this. Dead ones stay in the list, so that no handle is used again. old: of a machine before,
   which a failed test left to pycuda's destructors; what they ask for is done, in silence, since an error in a
   destructor ends the process. */
typedef struct object { struct object *next; kind kind; int dead, old; CUcontext context; } object;
struct CUctx_st { object object; int references; };

typedef struct block {
    struct block *next;
    char *host;
    size_t size;
    int pinned, mapped, dead, writer;       /* writer: slot of the last write, which is number `written` there */
    uint64_t written, read[SLOTS];
    CUcontext context;
} block;

typedef struct { uint64_t address; size_t size; int write, on_host; block *block; } range;
typedef enum { COPY, SET, MARK, KERNEL } work;
typedef struct op {
    struct op *next;
    work work;
    range ranges[RANGES];                   /* COPY: destination, source; SET: destination; KERNEL: what it touches */
    int count, value, pageable;            /* pageable: the host's memory need not be pinned */
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
    unsigned flags;
    list queue;
    clocks clock;
    CUgraph capture;
    pthread_t owner;
    CUstreamCaptureMode mode;
};
struct CUevent_st { object object; unsigned flags; int recorded, captured, slot; uint64_t seq; clocks at; float time; };
struct CUgraph_st { object object; list ops; };
struct CUgraphExec_st { object object; list ops; };
struct CUmod_st { object object; char *image; };
typedef struct { int offset, size; } parameter;
struct CUfunc_st {
    object object;
    CUmodule module;
    char name[256];
    parameter parameters[64];
    int count, bytes, threads[3], most_shared;
};
/* tests/cuda_driver/machine.py has the same */
typedef struct { char name[256]; unsigned grid[3], block[3], shared; int bytes; uint64_t arguments[64]; CUstream stream; int count; } launch;

/* What a call needs; each includes those before. SAFE: no capture forbids it. */
typedef enum { NOTHING, DRIVER, CURRENT, SAFE } need;
enum { NOTHING_TO_DO = -1 };
int enter(const char *name, need needs);
void leave(int *held);
/* takes the lock until the function returns */
#define ENTER(needs) \
    int held_ __attribute__((cleanup(leave), unused)) = 1; \
    pthread_mutex_lock(&lock); \
    do { int e_ = enter(__func__, needs); if (e_) return e_ == NOTHING_TO_DO ? CUDA_SUCCESS : e_; } while (0)
#define FAIL(error, ...) do { report(__func__, __VA_ARGS__); return (error); } while (0)
/* the handle is alive and of its kind */
#define CHECK(handle, kind_) \
    do { if (!alive(handle, kind_)) FAIL(CUDA_ERROR_INVALID_HANDLE, "no " #kind_ " that is in use"); } while (0)

extern pthread_mutex_t lock;
extern CUresult sticky;
extern object *objects;
extern long unified, capability, most_bytes;
extern __thread CUcontext stack[STACK];
extern __thread int depth;

__attribute__((format(printf, 2, 3))) void report(const char *where, const char *format, ...);
void *make(kind kind, size_t size);
int alive(const void *handle, kind kind);
int is_old(const void *handle);
void end_context(CUcontext context);
void free_everything(void);

block *find_block(uint64_t address, size_t size, int on_host);
int resolve(range *range, const char *what);
void *host_address(const range *range);
void forget_memory(void);
long count_blocks(int pinned);
void end_memory(CUcontext context);

CUresult issue(CUstream stream, op *work, const char *where);
CUresult issue_and_wait(op *work, const char *where);
int is_pending(const block *block);
void finish_all(void);
CUstream stream_of(CUstream stream);
int capture_forbids(void);
void start_streams(void);
void free_work(object *object);
void forget_launches(void);
#endif
