#!/bin/bash
# Extract a folder in eight parts, each by a task of a job array:
#     job=$(sbatch --parsable slurm_array.sh)
#     sbatch --dependency=afterany:"$job" --wrap "cnncodes merge parts/part-*.h5 -o codes.h5"
# If tasks fail, or their time ends, type the same two lines again: finished parts take seconds, the others go on.
#SBATCH --job-name=extract
#SBATCH --array=1-8
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=04:00:00
set -eu
mkdir -p parts
i=$SLURM_ARRAY_TASK_ID
# srun gives a task one processor unless it is told again how many
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    cnncodes extract photos/ --shard "$i/$SLURM_ARRAY_TASK_COUNT" -o "parts/part-$i.h5"
