"""cuDNN through avec: the graph API over a cuDNN of the executor's that checks what it is told, and descriptors over
NVIDIA's own, where it is installed."""

import json
import os
import subprocess
import unittest

from support import BUILD, Case, program, run_avec, scratch_folder


class CudnnGraph(Case):
    def test_a_plan_is_built_once_and_its_executions_wait_for_nothing(self):
        with scratch_folder() as folder:
            device = folder / "libavec_cpu_device.so"
            os.symlink(os.path.join(BUILD, "lib", "avec", "libavec_cpu_device.so"), device)
            os.symlink(program("fake_cudnn.so"), folder / "libavec_cpu_cudnn.so")
            stats = folder / "stats.json"
            result = run_avec(program("library_cudnn_graph"), local=True,
                              options=("--stats", str(stats)), AVEC_CPU_DEVICE=str(device))
            self.assert_succeeds(result)
            self.assertEqual(result.stdout, "passed\n")
            calls = {call["name"]: call for call in json.loads(stats.read_text())["functions"]}
        waited = {name: call["waited"] for name, call in calls.items() if "udnn" in name and call["waited"]}
        # The library is opened; each content is built once (the odd tensor, three more, operation, graph; heuristics, plan);
        # the plan's first execution waits; four matrices of one shape are asked for; three
        # tensors set the same have one content, which cuDNN changes for one of them.
        self.assertEqual(waited, {"cudnnCreate": 1, "avecCudnnVersions": 1, "avecCudnnBuild": 6, "avecCudnnBuildLong": 2, "avecCudnnGet": 1,
                                  "avecCudnnGetDescriptors": 1, "avecCudnnTry": 1, "avecCudnnWeightParams": 4,
                                  "avecCudnnSetTensorNd": 2, "cudnnGetTensorNdDescriptor": 3,
                                  "cudnnDeriveBNTensorDescriptor": 1})
        # Five values, five packs; every execution names one of them.
        self.assertEqual(calls["avecCudnnPack"]["posted"], 5)
        self.assertEqual(calls["avecCudnnExecute"]["posted"], 99)

    def test_descriptors_answer_what_they_answer_natively(self):
        nvidia = os.environ.get("AVEC_NVIDIA_CUDNN", "")
        described = os.path.join(BUILD, "examples", "library_cudnn_descriptors")
        if not nvidia or not os.path.exists(described):
            self.skipTest("NVIDIA's cuDNN is not installed")
        native = subprocess.run([described], capture_output=True, text=True, timeout=60,
                                env={"LD_LIBRARY_PATH": os.path.dirname(nvidia)})
        with scratch_folder() as folder:
            device = folder / "libavec_cpu_device.so"
            os.symlink(os.path.join(BUILD, "lib", "avec", "libavec_cpu_device.so"), device)
            os.symlink(nvidia, folder / "libavec_cpu_cudnn.so")
            # cuDNN's own parts are beside it, not beside the link.
            result = run_avec(described, local=True, AVEC_CPU_DEVICE=str(device), LD_LIBRARY_PATH=os.path.dirname(nvidia))
        self.assert_succeeds(native)
        self.assert_succeeds(result)
        self.assertGreater(len(native.stdout.splitlines()), 100)
        self.assertEqual(result.stdout, native.stdout)


if __name__ == "__main__":
    unittest.main()
