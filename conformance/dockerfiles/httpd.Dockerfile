FROM httpd:2.4
COPY ./public-html/ /usr/local/apache2/htdocs/
VOLUME ["/var/log"]
LABEL org.opencontainers.image.title="web" \
      maintainer='me <me@example.com>'
EXPOSE 80/tcp 443
