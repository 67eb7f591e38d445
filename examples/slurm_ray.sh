#!/bin/bash
# Extract a folder on four machines that pull their work from one Ray cluster, which lasts as long as the job:
#     sbatch slurm_ray.sh
# Type `ray get-auth-token --generate` once before: without ~/.ray/auth_token, which the machines share, whoever reaches
# their network can run programs on them.
#SBATCH --job-name=extract
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
#SBATCH --time=04:00:00
set -eu
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# srun gives a task one processor unless it is told again how many
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    ray symmetric-run --address "$first:6379" --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus="$SLURM_CPUS_PER_TASK" \
    -- cnncodes extract photos/ --ray auto -o codes.h5
