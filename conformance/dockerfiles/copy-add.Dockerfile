FROM scratch
WORKDIR d
COPY a b* [c]d /e/
COPY --parents src/./a/*.rs x/y /f
COPY ["with space", "./"]
COPY --exclude=*.tmp --exclude=!keep.tmp --chmod=u=rwX,go=rX . .
ADD app.tar.gz /g
ADD --unpack=false app.tar.gz /h/
ADD --checksum=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 --chown=1:2 https://example.com/f.txt?x=1 /i/
ADD --keep-git-dir=true https://example.com/r.git?tag=v1&subdir=docs /j
COPY --from=nginx:1.27 /etc/nginx/nginx.conf /
