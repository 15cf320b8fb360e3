/*
 * A model on ONNX Runtime and nothing else: what ichwatch is measured against.
 *
 *   bare LIBRARY MODEL INPUT-NAME OUTPUT-NAME CLASSES INPUT SLICES THREADS CHANNELS HEIGHT WIDTH
 *
 * INPUT holds the float32 of so many SLICES, which are computed in turns: one alone
 * would stay in the processor's caches. A session that computes each run on one
 * thread, as many threads with outputs of their own as THREADS. For each line
 * with a number N on standard input it runs N slices and prints the seconds that
 * took, those of the processor, and its resident memory in KiB.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "onnxruntime_c_api.h"

static const OrtApi *api;
static OrtSession *session;
static const char *input_name, *output_name;
static int64_t shape[4], classes;
static float *slices;
static long count;
static atomic_long left;
static pthread_barrier_t begin, end;

static void check(OrtStatus *status)
{
	if (status != NULL) {
		fprintf(stderr, "%s\n", api->GetErrorMessage(status));
		exit(1);
	}
}

static void *work(void *unused)
{
	size_t values = (size_t)(shape[1] * shape[2] * shape[3]);
	float *out = malloc((size_t)classes * sizeof *out);
	int64_t out_shape[2] = {1, classes};
	OrtMemoryInfo *memory;
	OrtValue **x = calloc((size_t)count, sizeof *x), *y = NULL;

	check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
	for (long i = 0; i < count; i++)
		check(api->CreateTensorWithDataAsOrtValue(memory, slices + (size_t)i * values, values * sizeof *slices, shape, 4, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &x[i]));
	check(api->CreateTensorWithDataAsOrtValue(memory, out, (size_t)classes * sizeof *out, out_shape, 2, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &y));
	for (;;) {
		pthread_barrier_wait(&begin);
		for (long n; (n = atomic_fetch_sub(&left, 1)) > 0;)
			check(api->Run(session, NULL, &input_name, (const OrtValue *const *)&x[n % count], 1, &output_name, 1, &y));
		pthread_barrier_wait(&end);
	}
	return unused;
}

static long resident(void)
{
	char line[256];
	long kib = 0;
	FILE *f = fopen("/proc/self/status", "r");

	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if (sscanf(line, "VmRSS: %ld", &kib) == 1)
			break;
	if (f != NULL)
		fclose(f);
	return kib;
}

static double seconds(struct timespec a, struct timespec b)
{
	return (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
}

int main(int argc, char **argv)
{
	if (argc != 12)
		return 2;
	void *library = dlopen(argv[1], RTLD_NOW);
	if (library == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	const OrtApiBase *(*base)(void) = (const OrtApiBase *(*)(void))dlsym(library, "OrtGetApiBase");
	api = base()->GetApi(ORT_API_VERSION);
	input_name = argv[3], output_name = argv[4], classes = atol(argv[5]);
	count = atol(argv[7]);
	int threads = atoi(argv[8]);
	shape[0] = 1, shape[1] = atol(argv[9]), shape[2] = atol(argv[10]), shape[3] = atol(argv[11]);
	size_t values = (size_t)(shape[1] * shape[2] * shape[3]);
	slices = malloc((size_t)count * values * sizeof *slices);
	FILE *f = fopen(argv[6], "rb");
	if (f == NULL || fread(slices, sizeof *slices, (size_t)count * values, f) != (size_t)count * values)
		return 1;
	fclose(f);

	OrtEnv *env;
	OrtSessionOptions *options;
	check(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "bare", &env));
	check(api->CreateSessionOptions(&options));
	check(api->SetIntraOpNumThreads(options, 1));
	check(api->SetInterOpNumThreads(options, 1));
	check(api->SetSessionGraphOptimizationLevel(options, ORT_ENABLE_ALL));
	check(api->CreateSession(env, argv[2], options, &session));

	pthread_barrier_init(&begin, NULL, (unsigned)threads + 1);
	pthread_barrier_init(&end, NULL, (unsigned)threads + 1);
	for (int i = 0; i < threads; i++) {
		pthread_t t;
		pthread_create(&t, NULL, work, NULL);
	}
	long n;
	while (scanf("%ld", &n) == 1) {
		struct timespec a, b, ca, cb;
		atomic_store(&left, n);
		clock_gettime(CLOCK_MONOTONIC, &a);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ca);
		pthread_barrier_wait(&begin);
		pthread_barrier_wait(&end);
		clock_gettime(CLOCK_MONOTONIC, &b);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cb);
		printf("%.9f %.9f %ld\n", seconds(a, b), seconds(ca, cb), resident());
		fflush(stdout);
	}
	return 0;
}
