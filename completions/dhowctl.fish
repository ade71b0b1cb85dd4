# fish completion for dhowctl

# The images of the --store that was typed, or the default one.
function __dhowctl_images
    set -l words (commandline -opc)
    set -l at (contains -i -- --store $words)
    if test -n "$at"
        dhowctl --store $words[(math $at + 1)] images -q 2>/dev/null
    else
        dhowctl images -q 2>/dev/null
    end
end

complete -c dhowctl -f

# Global options and commands
complete -c dhowctl -n '__fish_use_subcommand' -l store -xa '(__fish_complete_directories)' -d 'the image store'
complete -c dhowctl -n '__fish_use_subcommand' -l debug -d 'say what is being done'
complete -c dhowctl -n '__fish_use_subcommand' -s v -l version -d 'print the version'
complete -c dhowctl -n '__fish_use_subcommand' -s h -l help -d 'show a summary'
complete -c dhowctl -n __fish_use_subcommand -a build -d 'make an image from a Dockerfile'
complete -c dhowctl -n __fish_use_subcommand -a fetch -d 'fetch an image from a registry'
complete -c dhowctl -n __fish_use_subcommand -a help -d 'show the commands, or one of them'
complete -c dhowctl -n __fish_use_subcommand -a images -d 'list the images of the store'
complete -c dhowctl -n __fish_use_subcommand -a inspect -d 'show an image\'s config, layers, history and platforms'
complete -c dhowctl -n __fish_use_subcommand -a login -d 'log in to a registry'
complete -c dhowctl -n __fish_use_subcommand -a logout -d 'forget the login to a registry'
complete -c dhowctl -n __fish_use_subcommand -a prune -d 'remove from the store what no image needs'
complete -c dhowctl -n __fish_use_subcommand -a push -d 'push an image to a registry'
complete -c dhowctl -n __fish_use_subcommand -a rmi -d 'remove images from the store'
complete -c dhowctl -n __fish_use_subcommand -a run -d 'run a container of a bundle or an image, in the foreground'
complete -c dhowctl -n __fish_use_subcommand -a tag -d 'give an image of the store another name'
complete -c dhowctl -n __fish_use_subcommand -a unpack -d 'make a bundle of an image: root file system and config.json'
complete -c dhowctl -n __fish_use_subcommand -a unshare -d 'run a command where files of subordinate ids are yours'
complete -c dhowctl -n __fish_use_subcommand -a verify -d 'check every blob of the store against its digest'
complete -c dhowctl -n __fish_use_subcommand -a version -d 'print the version'
complete -c dhowctl -n '__fish_seen_subcommand_from help' -a 'build fetch help images inspect login logout prune push rmi run tag unpack unshare verify version'
complete -c dhowctl -n '__fish_seen_subcommand_from fetch images inspect push rmi run tag unpack' -a '(__dhowctl_images)'
complete -c dhowctl -n '__fish_seen_subcommand_from build run unpack' -a '(__fish_complete_directories)'

# build
complete -c dhowctl -n '__fish_seen_subcommand_from build' -s t -l tag -x -d 'the image\'s name in the store'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -s f -l file -r -d 'the Dockerfile'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l target -x -d 'the stage to build'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l build-arg -x -d 'a value for ARG'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l secret -x -d 'a secret for RUN'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l ssh -x -d 'an agent for RUN'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l platform -x -d 'of the image'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l label -x -d 'a label of the image'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l no-cache -d 'do all steps again'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l pull -d 'fetch base images anyway'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l build-context -x -d 'a context by name'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l network -xa 'default none host' -d 'the network of RUNs'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l volume -x -d 'bind into each RUN'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -s o -l output -x -d 'also bring the image there'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l cache-to -x -d 'keep the build cache there'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l cache-from -x -d 'take what is cached from there'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l progress -xa 'auto plain tty quiet' -d 'how to tell what is done'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l runtime -r -d 'the runtime'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l runtime-root -r -d '--root of the runtime'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l insecure -d 'put up with plain http and unknown certificates'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l cert-dir -xa '(__fish_complete_directories)' -d 'CAs and certificates for the registry'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l registries-conf -rF -d 'mirrors and registries'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l retries -x -d 'how often to try again'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l timeout -x -d 'seconds of silence'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l parallel -x -d 'how many blobs at once'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -s q -l quiet -d 'say nothing but the result'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -l format -xa 'text json' -d 'how to print'
complete -c dhowctl -n '__fish_seen_subcommand_from build' -s h -l help -d 'show a summary'

# fetch
complete -c dhowctl -n '__fish_seen_subcommand_from fetch' -l platform -x -d 'of an index, the image for this platform'
complete -c dhowctl -n '__fish_seen_subcommand_from fetch' -l all-platforms -d 'of an index, all there is'
complete -c dhowctl -n '__fish_seen_subcommand_from fetch' -s o -l output -x -d 'where to, instead of the store'
complete -c dhowctl -n '__fish_seen_subcommand_from fetch' -l insecure -d 'put up with plain http and unknown certificates'
complete -c dhowctl -n '__fish_seen_subcommand_from fetch' -l cert-dir -xa '(__fish_complete_directories)' -d 'CAs and certificates for the registry'
complete -c dhowctl -n '__fish_seen_subcommand_from fetch' -l registries-conf -rF -d 'mirrors and registries'
complete -c dhowctl -n '__fish_seen_subcommand_from fetch' -l retries -x -d 'how often to try again'
complete -c dhowctl -n '__fish_seen_subcommand_from fetch' -l timeout -x -d 'seconds of silence'
complete -c dhowctl -n '__fish_seen_subcommand_from fetch' -l parallel -x -d 'how many blobs at once'
complete -c dhowctl -n '__fish_seen_subcommand_from fetch' -s q -l quiet -d 'say nothing but the result'
complete -c dhowctl -n '__fish_seen_subcommand_from fetch' -l format -xa 'text json' -d 'how to print'
complete -c dhowctl -n '__fish_seen_subcommand_from fetch' -s h -l help -d 'show a summary'

# help
complete -c dhowctl -n '__fish_seen_subcommand_from help' -s h -l help -d 'show a summary'

# images
complete -c dhowctl -n '__fish_seen_subcommand_from images' -l format -xa 'table json' -d 'how to print'
complete -c dhowctl -n '__fish_seen_subcommand_from images' -s q -l quiet -d 'names only'
complete -c dhowctl -n '__fish_seen_subcommand_from images' -s h -l help -d 'show a summary'

# inspect
complete -c dhowctl -n '__fish_seen_subcommand_from inspect' -l format -xa 'table json' -d 'how to print'
complete -c dhowctl -n '__fish_seen_subcommand_from inspect' -l platform -x -d 'of an index, the image for this platform'
complete -c dhowctl -n '__fish_seen_subcommand_from inspect' -l raw -d 'print the manifest or index itself'
complete -c dhowctl -n '__fish_seen_subcommand_from inspect' -s h -l help -d 'show a summary'

# login
complete -c dhowctl -n '__fish_seen_subcommand_from login' -s u -l username -x -d 'the user\'s name'
complete -c dhowctl -n '__fish_seen_subcommand_from login' -l password-stdin -d 'read the password from standard input'
complete -c dhowctl -n '__fish_seen_subcommand_from login' -l insecure -d 'put up with plain http and unknown certificates'
complete -c dhowctl -n '__fish_seen_subcommand_from login' -l cert-dir -xa '(__fish_complete_directories)' -d 'CAs and certificates for the registry'
complete -c dhowctl -n '__fish_seen_subcommand_from login' -l registries-conf -rF -d 'mirrors and registries'
complete -c dhowctl -n '__fish_seen_subcommand_from login' -l retries -x -d 'how often to try again'
complete -c dhowctl -n '__fish_seen_subcommand_from login' -l timeout -x -d 'seconds of silence'
complete -c dhowctl -n '__fish_seen_subcommand_from login' -s h -l help -d 'show a summary'

# logout
complete -c dhowctl -n '__fish_seen_subcommand_from logout' -s h -l help -d 'show a summary'

# prune
complete -c dhowctl -n '__fish_seen_subcommand_from prune' -l format -xa 'text json' -d 'how to print'
complete -c dhowctl -n '__fish_seen_subcommand_from prune' -s h -l help -d 'show a summary'

# push
complete -c dhowctl -n '__fish_seen_subcommand_from push' -l insecure -d 'put up with plain http and unknown certificates'
complete -c dhowctl -n '__fish_seen_subcommand_from push' -l cert-dir -xa '(__fish_complete_directories)' -d 'CAs and certificates for the registry'
complete -c dhowctl -n '__fish_seen_subcommand_from push' -l registries-conf -rF -d 'mirrors and registries'
complete -c dhowctl -n '__fish_seen_subcommand_from push' -l retries -x -d 'how often to try again'
complete -c dhowctl -n '__fish_seen_subcommand_from push' -l timeout -x -d 'seconds of silence'
complete -c dhowctl -n '__fish_seen_subcommand_from push' -l parallel -x -d 'how many blobs at once'
complete -c dhowctl -n '__fish_seen_subcommand_from push' -s q -l quiet -d 'say nothing but the result'
complete -c dhowctl -n '__fish_seen_subcommand_from push' -l format -xa 'text json' -d 'how to print'
complete -c dhowctl -n '__fish_seen_subcommand_from push' -s h -l help -d 'show a summary'

# rmi
complete -c dhowctl -n '__fish_seen_subcommand_from rmi' -l keep-blobs -d 'remove the names only'
complete -c dhowctl -n '__fish_seen_subcommand_from rmi' -s h -l help -d 'show a summary'

# run
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l name -x -d 'the container\'s id'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -s t -l tty -d 'give it a terminal'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -s T -l no-tty -d 'no terminal'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l host-network -d 'the host\'s network'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -s e -l env -x -d 'a variable'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -s u -l user -x -d 'whose the program is'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -s w -l workdir -x -d 'its working directory'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l entrypoint -x -d 'instead of the image\'s'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -s v -l volume -rF -d 'bind a file or directory of the host'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -s i -l interactive -d 'with standard input, as always'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l rm -d 'remove the container, as always'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l copy -d 'unpack a copy instead of mounting layers'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l runtime -rF -d 'the runtime'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l runtime-root -xa '(__fish_complete_directories)' -d '--root of the runtime'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l platform -x -d 'of an index, the image for this platform'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l pull -d 'ask the registry anyway'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l uid-map -x -d 'translate owners'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l gid-map -x -d 'translate groups'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l rootless -d 'all files become yours'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l max-size -x -d 'most bytes of the layers'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l max-ratio -x -d 'most that a layer may grow'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l max-entries -x -d 'most files'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l insecure -d 'put up with plain http and unknown certificates'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l cert-dir -xa '(__fish_complete_directories)' -d 'CAs and certificates for the registry'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l registries-conf -rF -d 'mirrors and registries'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l retries -x -d 'how often to try again'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l timeout -x -d 'seconds of silence'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l parallel -x -d 'how many blobs at once'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -s q -l quiet -d 'say nothing but the result'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -l format -xa 'text json' -d 'how to print'
complete -c dhowctl -n '__fish_seen_subcommand_from run' -s h -l help -d 'show a summary'

# tag
complete -c dhowctl -n '__fish_seen_subcommand_from tag' -s h -l help -d 'show a summary'

# unpack
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l overlay -d 'mount shared layers instead of copying'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -s t -l tty -d 'the container gets a terminal'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l host-network -d 'the host\'s network'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l platform -x -d 'of an index, the image for this platform'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l pull -d 'ask the registry anyway'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l uid-map -x -d 'translate owners'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l gid-map -x -d 'translate groups'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l rootless -d 'all files become yours'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l max-size -x -d 'most bytes of the layers'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l max-ratio -x -d 'most that a layer may grow'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l max-entries -x -d 'most files'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l insecure -d 'put up with plain http and unknown certificates'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l cert-dir -xa '(__fish_complete_directories)' -d 'CAs and certificates for the registry'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l registries-conf -rF -d 'mirrors and registries'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l retries -x -d 'how often to try again'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l timeout -x -d 'seconds of silence'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l parallel -x -d 'how many blobs at once'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -s q -l quiet -d 'say nothing but the result'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -l format -xa 'text json' -d 'how to print'
complete -c dhowctl -n '__fish_seen_subcommand_from unpack' -s h -l help -d 'show a summary'

# unshare
complete -c dhowctl -n '__fish_seen_subcommand_from unshare' -xa '(__fish_complete_subcommand)'
complete -c dhowctl -n '__fish_seen_subcommand_from unshare' -s h -l help -d 'show a summary'

# verify
complete -c dhowctl -n '__fish_seen_subcommand_from verify' -l format -xa 'text json' -d 'how to print'
complete -c dhowctl -n '__fish_seen_subcommand_from verify' -s h -l help -d 'show a summary'

# version
complete -c dhowctl -n '__fish_seen_subcommand_from version' -s h -l help -d 'show a summary'
